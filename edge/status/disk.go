package status

import (
	"fmt"
	"io"
)

// Disk is what keeping data costs on this gateway's disk, measured by the agent
// in the last five to ten minutes.
type Disk struct {
	Since         string  `json:"since,omitempty"`   // RFC 3339: when the count began; empty: nothing is counted
	CommitMS      float64 `json:"commit_ms"`         // one synced commit, on the average
	SlowestMS     float64 `json:"slowest_ms"`        // the slowest of them
	CommitsPerMin float64 `json:"commits_per_min"`   // of all sources and the agent's own
	ValuesPerSec  float64 `json:"values_per_second"` // that were made durable
	WrittenPerDay float64 `json:"written_bytes_per_day"`
	// Profiles says what each window profile costs at this rate. For one that is
	// not in use it is reckoned: commits as often as its windows would close, each
	// with as many bytes beside its content as they have now.
	Profiles []Profile `json:"profiles,omitempty"`
}

// Profile is what a window profile costs here. Written is what the file system
// is given; what it writes for itself beside that, the agent can't see.
type Profile struct {
	Profile          string  `json:"profile"`
	InUse            bool    `json:"in_use"`         // by every source
	WithinSeconds    float64 `json:"within_seconds"` // from a value's coming until it is on disk, at most
	CommitsPerDay    float64 `json:"commits_per_day"`
	WrittenPerCommit float64 `json:"written_bytes_per_commit"`
	WrittenPerDay    float64 `json:"written_bytes_per_day"`
	WrittenPerValue  float64 `json:"written_bytes_per_value"`
}

func (d Disk) print(w io.Writer) error {
	if d.Since == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "disk     a commit takes %.1f ms here, the slowest %.1f ms; %.0f values/s in %.0f commits a minute since %s: %.2f GB a day written\n",
		d.CommitMS, d.SlowestMS, d.ValuesPerSec, d.CommitsPerMin, d.Since, d.WrittenPerDay/1e9)
	for _, p := range d.Profiles {
		use := "would write"
		if p.InUse {
			use = "in use, writes"
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "  window profile %-8s %-14s %.2f GB a day (%.1f KiB a commit, %.1f bytes a value); values are on disk within %.1f s\n",
				p.Profile, use, p.WrittenPerDay/1e9, p.WrittenPerCommit/1024, p.WrittenPerValue, p.WithinSeconds)
		}
	}
	return err
}
