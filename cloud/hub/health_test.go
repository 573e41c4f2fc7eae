package hub

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch_EndsWhenTheDiskIsWellAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		full := errors.New("no space left on device")
		unwell := func() error {
			if since := time.Since(began); since > 8*time.Second && since < 12*time.Second || since > 20*time.Second {
				return errors.New("write error")
			}
			return nil
		}
		writable := func() error {
			if time.Since(began) < time.Minute {
				return full
			}
			return nil
		}
		err := watch(t.Context(), unwell, writable, defaultCheckEvery)
		if !errors.Is(err, errStreams) || time.Since(began) != time.Minute {
			t.Errorf("ended after %s: %v", time.Since(began), err)
		}
	})
}

func TestHub_Writable(t *testing.T) {
	h := &hub{cfg: Config{Data: t.TempDir()}}
	if err := h.writable(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.cfg.Data, "probe")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the probe stays: %v", err)
	}
	h.cfg.Data = filepath.Join(h.cfg.Data, "gone")
	if h.writable() == nil {
		t.Error("a folder that is gone takes writes")
	}
}
