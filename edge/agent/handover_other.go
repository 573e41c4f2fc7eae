//go:build !unix

package agent

// HandOver does nothing here: files have no user that could not read them.
func HandOver(string) error { return nil }
