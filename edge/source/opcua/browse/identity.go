package browse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Identity is what a server says of itself.
type Identity struct {
	Product string   `json:"product"`             // manufacturer, product and version; empty: it doesn't say
	Ahead   *float64 `json:"clock_ahead_seconds"` // of the clock here; nil: it gives no time
	Specs   []string `json:"specs"`               // companion specifications whose namespaces it has
}

// Identify reads what a server says of itself.
func Identify(ctx context.Context, c Caller) (i Identity, err error) {
	s, err := meet(ctx, c)
	if err != nil {
		return i, err
	}
	i.Specs = []string{}
	for _, uri := range s.namespaces {
		if spec, ok := strings.CutPrefix(uri, nsFoundation); ok && spec != "" {
			i.Specs = append(i.Specs, cut(strings.TrimSuffix(spec, "/"), maxShown))
		}
	}
	asked := time.Now()
	got, err := s.read(ctx, []*ua.ReadValueID{value(ua.NewNumericNodeID(0, id.Server_ServerStatus))})
	if err != nil {
		return i, fmt.Errorf("read the server's status: %w", err)
	}
	half := time.Since(asked) / 2 // it looked at its clock between asking and answering
	o, ok := plain(got[0]).(*ua.ExtensionObject)
	if !ok || o == nil {
		return i, nil
	}
	status, ok := o.Value.(*ua.ServerStatusDataType)
	if !ok || status == nil {
		return i, nil
	}
	if !status.CurrentTime.IsZero() {
		ahead := status.CurrentTime.Sub(asked.Add(half)).Seconds()
		i.Ahead = &ahead
	}
	if b := status.BuildInfo; b != nil {
		i.Product = cut(strings.Join(strings.Fields(b.ManufacturerName+" "+b.ProductName+" "+b.SoftwareVersion), " "), maxShown)
	}
	return i, nil
}

// Text is the identity in a line.
func (i *Identity) Text() string {
	out := "server: " + i.Product
	if i.Product == "" {
		out += "says nothing of itself"
	}
	if i.Ahead != nil {
		out += fmt.Sprintf("; its clock is %+.1f s from this gateway's", *i.Ahead)
	}
	if len(i.Specs) > 0 {
		out += "; namespaces of " + strings.Join(i.Specs, ", ")
	}
	return out
}
