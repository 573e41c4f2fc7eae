package opcua

import (
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

func TestServer_HistoryReadBothWays(t *testing.T) {
	r := open(t, Config{}, tempA)
	for i := 1; i <= 10; i++ {
		r.push(tempA, 100*i, float64(i))
	}
	c := connect(t, r.URL())
	at := func(i int) time.Time { return day.Add(time.Duration(100*i) * time.Millisecond) }
	for name, x := range map[string]struct {
		from, to time.Time
		most     uint32
		want     []float64
	}{
		"forward":           {at(2), at(5), 0, []float64{2, 3, 4}},
		"backward":          {at(5), at(2), 0, []float64{5, 4, 3}},
		"backward in pages": {at(10), at(0), 3, []float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		"open end":          {at(8), time.Time{}, 2, []float64{8, 9, 10}},
		"open start":        {time.Time{}, at(3), 2, []float64{3, 2, 1}},
		"one instant":       {at(4), at(4), 0, []float64{4}},
		"nothing is kept":   {at(-20), at(-10), 0, nil},
	} {
		req := history(tempA, x.most)
		req.HistoryReadDetails = ua.NewExtensionObject(&ua.ReadRawModifiedDetails{StartTime: x.from, EndTime: x.to, NumValuesPerNode: x.most})
		var got []float64
		for {
			res := must[*ua.HistoryReadResponse](c, req).Results[0]
			values := res.HistoryData.Value.(*ua.HistoryData).DataValues
			if (res.StatusCode == ua.StatusGoodNoData) != (len(values) == 0) {
				t.Errorf("%s: %v with %d values", name, res.StatusCode, len(values))
			}
			if x.most > 0 && len(values) > int(x.most) {
				t.Errorf("%s: %d values in an answer, asked for %d", name, len(values), x.most)
			}
			for _, v := range values {
				got = append(got, v.Value.Float())
			}
			if req.NodesToRead[0].ContinuationPoint = res.ContinuationPoint; len(res.ContinuationPoint) == 0 {
				break
			}
		}
		equal(t, got, x.want)
	}
	req := history(tempA, 0)
	req.HistoryReadDetails = ua.NewExtensionObject(&ua.ReadRawModifiedDetails{StartTime: at(1)})
	if _, err := call[*ua.HistoryReadResponse](c, req); !isStatus(err, ua.StatusBadInvalidTimestampArgument) {
		t.Errorf("without an end or a number: %v", err)
	}
}
