package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// probeBytes is what the disk must take before streams are opened anew: less
// would be full again with the first messages.
const probeBytes = 1 << 20

// errStreams means that the embedded NATS refuses to store for good.
var errStreams = errors.New("the streams can't be written")

// watch ends with errStreams when the streams are unwell and the disk is well
// again. A write that the disk refused (no space left, say) stays with the
// server's stream until it is opened anew, however much was freed meanwhile:
// the agents would wait for ever.
func watch(ctx context.Context, unwell, writable func() error, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for ill := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := unwell()
		if ill++; err == nil {
			ill = 0
		}
		if ill >= 2 && writable() == nil {
			return fmt.Errorf("%w: %w", errStreams, err)
		}
	}
}

// unwell is what the embedded server says of its streams; nil: they are well.
func (h *hub) unwell() error {
	s := h.nats.Healthz(nil)
	if s.Status == "ok" {
		return nil
	}
	return fmt.Errorf("the streams are %s: %s", s.Status, s.Error)
}

// writable tries whether the disk takes something.
func (h *hub) writable() error {
	path := filepath.Join(h.cfg.Data, probeName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	_, err = f.Write(make([]byte, probeBytes))
	if err := errors.Join(err, f.Sync(), f.Close(), os.Remove(path)); err != nil {
		return fmt.Errorf("try the disk: %w", err)
	}
	return nil
}
