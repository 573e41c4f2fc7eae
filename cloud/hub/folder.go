package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// ReadConfiguration reads the files of sources.d and rules.d in a folder, as a gateway has
// them beside its edge.yaml. That they are YAML is looked at here; what they say the gateway
// judges.
func ReadConfiguration(dir string) (revision.Files, error) {
	out, found := revision.Files{}, false
	for _, sub := range []string{revision.SourcesFolder, revision.RulesFolder} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &strict.Fault{File: filepath.Join(dir, sub), What: strict.Unreadable(err)}
		}
		found = true
		for _, e := range entries {
			path := filepath.Join(dir, sub, e.Name())
			switch filepath.Ext(path) {
			case ".yaml":
			case ".yml":
				return nil, &strict.Fault{File: path, What: "is not read: only files that end with .yaml are; rename it"}
			default:
				continue
			}
			if len(out) == revision.MaxFiles {
				return nil, &strict.Fault{File: path, What: fmt.Sprintf("is one too many: a revision has at most %d files", revision.MaxFiles)}
			}
			if out[sub+"/"+e.Name()], err = readYAML(path); err != nil {
				return nil, err
			}
		}
	}
	if !found {
		return nil, &strict.Fault{File: dir, What: "has neither sources.d nor rules.d: name the folder in which a gateway's edge.yaml would lie"}
	}
	if err := out.Check(); err != nil {
		return nil, &strict.Fault{File: dir, What: err.Error()}
	}
	return out, nil
}

// readYAML reads one file.
func readYAML(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	b, err := io.ReadAll(io.LimitReader(f, revision.MaxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", &strict.Fault{File: path, What: strict.Unreadable(err)}
	}
	if len(b) > revision.MaxBytes {
		return "", &strict.Fault{File: path, What: fmt.Sprintf("is larger than a whole revision may be, %d KiB", revision.MaxBytes>>10)}
	}
	var v any
	if _, err := strict.Parse(path, b, &v); err != nil {
		return "", err
	}
	return string(b), nil
}
