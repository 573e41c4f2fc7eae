package opcua

import "github.com/gopcua/opcua/ua"

func (p *plc) monitor(r ua.Request) (ua.Response, error) {
	req := r.(*ua.CreateMonitoredItemsRequest)
	s := p.subs[req.SubscriptionID]
	switch {
	case s == nil:
		return nil, ua.StatusBadSubscriptionIDInvalid
	case len(req.ItemsToCreate) > p.most:
		return nil, ua.StatusBadTooManyOperations
	}
	out := &ua.CreateMonitoredItemsResponse{ResponseHeader: p.header(), DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for _, want := range req.ItemsToCreate {
		ask := want.RequestedParameters
		res := &ua.MonitoredItemCreateResult{RevisedSamplingInterval: ask.SamplingInterval, RevisedQueueSize: ask.QueueSize, FilterResult: ua.NewExtensionObject(nil)}
		out.Results = append(out.Results, res)
		c := p.cells[want.ItemToMonitor.NodeID.String()]
		if c == nil {
			res.StatusCode = ua.StatusBadNodeIDUnknown
			continue
		}
		if p.item != nil {
			if p.item(want, res); res.StatusCode != ua.StatusOK {
				continue
			}
		}
		p.last++
		res.MonitoredItemID = p.last
		s.items[p.last] = &plcItem{cell: c, handle: ask.ClientHandle, asked: ask, queue: res.RevisedQueueSize}
		first := *c.value
		first.ServerTimestamp = p.clock.Time() // it is sampled now
		s.queue = append(s.queue, &ua.MonitoredItemNotification{ClientHandle: ask.ClientHandle, Value: &first})
	}
	return out, nil
}

func (p *plc) forget(r ua.Request) (ua.Response, error) {
	req := r.(*ua.DeleteMonitoredItemsRequest)
	s := p.subs[req.SubscriptionID]
	if s == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	for _, n := range req.MonitoredItemIDs {
		delete(s.items, n)
	}
	return &ua.DeleteMonitoredItemsResponse{ResponseHeader: p.header(), Results: make([]ua.StatusCode, len(req.MonitoredItemIDs)), DiagnosticInfos: []*ua.DiagnosticInfo{}}, nil
}

func (p *plc) republish(r ua.Request) (ua.Response, error) {
	req := r.(*ua.RepublishRequest)
	s := p.subs[req.SubscriptionID]
	if s == nil {
		return nil, ua.StatusBadSubscriptionIDInvalid
	}
	m := s.kept[req.RetransmitSequenceNumber]
	if m == nil {
		return nil, ua.StatusBadMessageNotAvailable
	}
	return &ua.RepublishResponse{ResponseHeader: p.header(), NotificationMessage: m}, nil
}
