package porthttp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// sealBytes of a cursor's sum go out with it.
const sealBytes = 6

// sealCursor is a reader's cursor as it goes out: with a sum over it and the
// product, so that one that was made up, cut short or taken from another
// product is told and not read as some place or other.
func sealCursor(product, cursor string) string {
	if cursor == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(product + "\x00" + cursor))
	return hex.EncodeToString(sum[:sealBytes]) + "." + cursor
}

// unsealCursor is what was sealed.
func unsealCursor(product, sealed string) (string, error) {
	_, cursor, _ := strings.Cut(sealed, ".")
	if sealed != sealCursor(product, cursor) {
		return "", badCursor()
	}
	return cursor, nil
}

func badCursor() error {
	return bad("cursor", "is not one this product gave: take next of the answer before, as it is")
}
