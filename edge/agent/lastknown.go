package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// LastKnown says what the data folder tells of an agent that doesn't answer, without opening
// its buffer: when it last wrote, and how much lies there. Empty: nothing.
func (c *Config) LastKnown() string {
	var last time.Time
	var bytes int64
	files, err := filepath.Glob(filepath.Join(c.Buffer.Dir, "*"))
	if err != nil {
		return ""
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		bytes += info.Size()
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if last.IsZero() {
		return ""
	}
	return fmt.Sprintf("it last wrote at %s, and keeps %.1f MiB on its disk: what of it the hub has not goes once it runs", stamp(last), float64(bytes)/(1<<20))
}
