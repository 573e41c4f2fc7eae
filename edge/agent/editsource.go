package agent

import (
	"bytes"

	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// TextOf is what the file of a source says, secrets too: for who edits it.
func (c *Config) TextOf(l SourceListed) ([]byte, error) {
	if l.Revision > 0 {
		return nil, ErrOfRevision
	}
	b, err := strict.Read(l.File)
	if err != nil {
		return nil, &strict.Fault{File: l.File, What: strict.Unreadable(err)}
	}
	return b, nil
}

// Rewrite makes a source's file say now instead of was, if that can be read beside the other
// sources; else nothing changes. Its owner and mode stay.
func (c *Config) Rewrite(l SourceListed, was, now []byte) error {
	s, err := ParseSource(l.File, now, c.Window)
	if err != nil {
		return err
	}
	if l.Source != "" && s.ID() != l.Source {
		return s.doc.Fault(s.section()+".id", "this is source %q, and would be %q: what waits and what is missing is known by that name; add another file instead", l.Source, s.ID())
	}
	var others []SourceFile
	for _, o := range c.Sources {
		if o.File != l.File {
			others = append(others, o)
		}
	}
	if l.Enabled {
		if err := s.beside(others); err != nil {
			return err
		}
	}
	is, err := c.TextOf(l)
	if err != nil {
		return err
	}
	if !bytes.Equal(is, was) {
		return &answer.Error{Code: answer.Configure, Message: "somebody else has changed " + l.File + " meanwhile", Hint: "edit what it says now"}
	}
	return replaceLike(l.File, now)
}
