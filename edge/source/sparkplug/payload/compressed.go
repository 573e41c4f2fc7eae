package payload

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"
)

// A payload may be another one, compressed, as Eclipse Tahu does: uuid says so, body is
// it, and a metric names the algorithm (GZIP; DEFLATE, which is zlib's form of it).
const (
	compressedUUID  = "SPBV1.0_COMPRESSED"
	algorithmMetric = "algorithm"
)

// Compressed reports whether a payload is another one, compressed.
func (p *Payload) Compressed() bool { return string(p.UUID) == compressedUUID }

// Inflate gives the bytes of the payload in one that is Compressed. They are at most
// MaxBytes, however much the body claims to be.
func Inflate(p *Payload) ([]byte, error) {
	algorithm := "DEFLATE"
	for i := range p.Metrics {
		if m := &p.Metrics[i]; string(m.Name) == algorithmMetric {
			algorithm = strings.ToUpper(string(m.Value.Bytes))
		}
	}
	var (
		r   io.ReadCloser
		err error
	)
	switch algorithm {
	case "GZIP":
		r, err = gzip.NewReader(bytes.NewReader(p.Body))
	case "DEFLATE":
		r, err = zlib.NewReader(bytes.NewReader(p.Body))
	default:
		return nil, fmt.Errorf("%w: compressed by %.20q, neither GZIP nor DEFLATE", ErrForm, algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: compressed, but not by %s", ErrForm, algorithm)
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: compressed by %s, and damaged: %w", ErrForm, algorithm, err)
	case len(out) > MaxBytes:
		return nil, fmt.Errorf("%w: compressed, and more than %d bytes without", ErrLimit, MaxBytes)
	}
	return out, r.Close()
}
