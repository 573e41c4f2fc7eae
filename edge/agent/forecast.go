package agent

import (
	"context"
	"fmt"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// Figures of a commit on this agent's disk beside its content (edge/DESIGN.md 19):
// two leaves, two branches, root and meta page.
const besideCommit = 24 << 10

// stateBytes is about what a reader's state takes in each commit; it stands there once.
const stateBytes = 400

// Forecast is what a source that is not read yet would cost.
type Forecast struct {
	KeptPerValue  float64 // bytes in the agent's log
	KeptPerDay    float64
	WrittenPerDay float64 // bytes given to the file system
	BufferBytes   int64
	BufferHours   float64 // until the buffer is full, if this were its only source; 0: not known
	Basis         string  // where that comes from, in words
}

// Cost says what a source would cost that says samples in a time lasting, as table
// types them. Where an agent runs with cfg, its own figures of a value count; else
// the samples are sealed as it would.
func Cost(ctx context.Context, cfg *Config, table []mesh.Signal, samples []mesh.Sample, lasting time.Duration) (f Forecast, err error) {
	perDay := float64(len(samples)) * float64(day) / float64(lasting)
	limits := buffer.Config{Dir: "-", Log: "-"}
	window := source.Window{}
	if cfg != nil && cfg.Need(Data, Keeping) == nil {
		limits, window = cfg.Buffer, cfg.Window
	}
	if err := limits.Validate(); err != nil {
		return f, err
	}
	if err := window.Validate(); err != nil {
		return f, err
	}
	f.BufferBytes = int64(limits.MaxBytes)
	if cfg == nil || !f.asCounted(ctx, *cfg, perDay) {
		if err := f.asSealed(window, table, samples, lasting); err != nil {
			return f, err
		}
	}
	if f.KeptPerDay > 0 {
		f.BufferHours = float64(f.BufferBytes) / f.KeptPerDay * 24
	}
	return f, nil
}

// asCounted takes the figures of the agent that runs.
func (f *Forecast) asCounted(ctx context.Context, cfg Config, perDay float64) bool {
	s, err := Status(ctx, cfg)
	if err != nil || s.Disk.Since == "" || s.Disk.ValuesPerSec == 0 || s.Buffer.BytesPerHour == 0 || perDay == 0 {
		return false
	}
	f.KeptPerValue = s.Buffer.BytesPerHour / s.Disk.ValuesPerSec / time.Hour.Seconds()
	f.KeptPerDay = f.KeptPerValue * perDay
	f.WrittenPerDay = s.Disk.WrittenPerDay / (s.Disk.ValuesPerSec * day.Seconds()) * perDay
	f.Basis = fmt.Sprintf("as the running agent counts its other sources: %.1f bytes a value", f.KeptPerValue)
	return true
}

// asSealed seals the samples, a commit for each window.
func (f *Forecast) asSealed(window source.Window, table []mesh.Signal, samples []mesh.Sample, lasting time.Duration) error {
	latency := time.Duration(window.Latency)
	windows := max(1, int(lasting/latency))
	sealer, err := source.NewSealer(window, "forecast", table)
	if err != nil {
		return err
	}
	per, content := max(1, (len(samples)+windows-1)/windows), 0
	sealer.Begin(0)
	for w := range windows { // also one without a sample says until when nothing came
		for i := min(w*per, len(samples)); i < min((w+1)*per, len(samples)); i++ {
			sealer.Add(samples[i])
		}
		sealer.Prove(mesh.Nanos(w+1) * mesh.Nanos(latency))
		o, err := sealer.Seal(nil)
		if err != nil {
			return err
		}
		for _, b := range o.Sealed {
			content += len(b)
		}
	}
	commits := float64(day) / float64(latency)
	perCommit := float64(content) / float64(windows)
	f.KeptPerDay = perCommit * commits
	f.WrittenPerDay = (perCommit + stateBytes + besideCommit) * commits
	if n := float64(len(samples)) * float64(day) / float64(lasting); n > 0 {
		f.KeptPerValue = f.KeptPerDay / n
	}
	f.Basis = fmt.Sprintf("sealed as the agent does, a commit each %s with 24 KiB beside its content; an agent that runs knows better", latency)
	return nil
}
