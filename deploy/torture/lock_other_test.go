//go:build !linux

package torture

func lockDatabase(x *trial, _ string) (unlock func()) {
	x.Skip("skipped: the locks of SQLite are taken as on Linux")
	return nil
}
