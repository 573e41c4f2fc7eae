package hub

import (
	"context"
	"time"

	"plantmesh/cloud/port/stream"
	"plantmesh/cloud/product"
)

// portOf is the name under which the store keeps how far the products are published in a
// stream: the account it lies in, and when it was made. In another stream all of them go
// out anew: of a hub of before, whose products lay in the account of the edge, of one that
// was restored, or whose key of the domain is lost.
func portOf(account string, made time.Time) string {
	return "stream/" + account + "/" + made.UTC().Format(time.RFC3339Nano)
}

// stream is the port that publishes changed rows on NATS.
func (h *hub) stream(ctx context.Context) (*stream.Stream, error) {
	// First, as the server promises the streams' disk once.
	left, err := stream.Leave(ctx, h.conn)
	if err != nil {
		return nil, err
	}
	if left {
		h.log.InfoContext(ctx, "the products' stream lay in the account of the edge and is deleted: every row goes out as it is now, in the domain's own account")
	}
	js, err := stream.Open(ctx, h.domain, int64(h.cfg.NATS.MaxStore)/productShare)
	if err != nil {
		return nil, err
	}
	cfg := stream.Config{
		Name: portOf(h.reg.Trust.DomainKey, js.Made()), Whole: true, Domain: h.site().Domain, Site: h.site().Name, LineOf: h.lineOf,
		Zone: func() *time.Location { return h.site().Calendar.Zone() },
	}
	for _, d := range h.defs {
		if d.Fold != product.FoldSamples {
			cfg.Products = append(cfg.Products, stream.Product{ID: d.ID, Version: d.Version, Columns: d.Columns})
		}
	}
	return stream.New(cfg, h.store, h.store, js, h.log), nil
}
