package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Bounds of passwords: OWASP ASVS 5.0 6.2.1 wants at least 8, better 15, and 6.2.9 at least
// 64 allowed; there is no rule of what they are composed of (6.2.5).
const (
	MinPassword = 12
	MaxPassword = 128
)

// ErrPassword is returned for a new password that is not taken; its words say why.
var ErrPassword = errors.New("this password is not taken")

// Cost is what hashing a password takes.
type Cost struct {
	Memory uint32 // KiB
	Time   uint32 // passes
}

// recommended is argon2id with 19 MiB, 2 passes and 1 lane: OWASP Password Storage Cheat
// Sheet, its second of the equal choices.
func recommended() Cost { return Cost{Memory: 19 << 10, Time: 2} }

// hashesAtOnce bounds the memory that hashing takes, and the processors: others wait.
const hashesAtOnce = 2

// Bounds of what a file may ask of this machine.
const (
	maxMemory = 256 << 10
	maxTime   = 16
	saltBytes = 16
	hashBytes = 32
	lanes     = 1
)

// errPHC is returned for a hash that is not one of ours.
var errPHC = errors.New("the hash of a password is damaged")

// hash makes what is kept of a password, as a PHC string.
func (a *Access) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	sum, err := a.argon(ctx, password, salt, a.cfg.Cost)
	if err != nil {
		return "", err
	}
	return phc(a.cfg.Cost, salt, sum), nil
}

func phc(c Cost, salt, sum []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Time, lanes, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// argon hashes once there is room for one more, or ctx ends.
func (a *Access) argon(ctx context.Context, password string, salt []byte, c Cost) ([]byte, error) {
	select {
	case a.hashes <- struct{}{}:
		defer func() { <-a.hashes }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, c.Time, c.Memory, lanes, hashBytes), nil
}

// verify says whether a password is the one that was hashed. An empty hash is nobody's,
// and costs the same.
func (a *Access) verify(ctx context.Context, kept, password string) (bool, error) {
	someone := kept != ""
	if !someone {
		kept = phc(a.cfg.Cost, make([]byte, saltBytes), make([]byte, hashBytes))
	}
	c, salt, want, err := parsePHC(kept)
	if err != nil {
		return false, err
	}
	if len(password) > 4*MaxPassword { // no password is that long
		password = password[:4*MaxPassword]
	}
	sum, err := a.argon(ctx, password, salt, c)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(sum, want) == 1 && someone, nil
}

func parsePHC(s string) (c Cost, salt, sum []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return c, nil, nil, errPHC
	}
	var version, p int
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &c.Memory, &c.Time, &p); err != nil {
		return c, nil, nil, errPHC
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(parts[4])
	sum, err2 := b64.DecodeString(parts[5])
	switch {
	case parts[0] != "" || parts[1] != "argon2id" || version != argon2.Version || p != lanes,
		c.Memory < 8 || c.Memory > maxMemory || c.Time < 1 || c.Time > maxTime,
		err1 != nil || err2 != nil || len(salt) != saltBytes || len(sum) != hashBytes:
		return c, nil, nil, errPHC
	}
	return c, salt, sum, nil
}

// checkPassword says why a new password is not taken.
func checkPassword(name, password string) error {
	n := utf8.RuneCountInString(password)
	low := strings.ToLower(password)
	switch {
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return fmt.Errorf("%w: it is no text", ErrPassword)
	case n < MinPassword:
		return fmt.Errorf("%w: it has %d characters, at least %d are needed; several words are easier to remember than signs", ErrPassword, n, MinPassword)
	case n > MaxPassword:
		return fmt.Errorf("%w: at most %d characters", ErrPassword, MaxPassword)
	case common(low):
		return fmt.Errorf("%w: it is one of those that are tried first", ErrPassword)
	case strings.Contains(low, strings.ToLower(name)) && n < 2*MinPassword || strings.Contains(low, "plantmesh") && n < 2*MinPassword:
		return fmt.Errorf("%w: it is made of your name, or of this program's", ErrPassword)
	}
	return nil
}

// common says whether a password is one of those that are tried first: a short piece said
// again and again, a row of keys, or one on the lists of what people choose.
func common(low string) bool {
	for n := 1; n <= 6; n++ {
		piece := low[:min(n, len(low))]
		if strings.HasPrefix(strings.Repeat(piece, len(low)/n+1), low) {
			return true
		}
	}
	for _, row := range []string{"01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop[]asdfghjkl", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklm", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb", "qazwsxedcrfvtgbyhnujm", "zaq12wsxcde34rfv", "09876543210987654321"} {
		if strings.Contains(row, low) {
			return true
		}
	}
	word := strings.Trim(low, "0123456789!?.-_*#$@ ")
	return slices.Contains([]string{"password", "passwort", "passw0rd", "p@ssw0rd", "p@ssword", "welcome", "willkommen", "administrator", "admin", "administration", "changeme", "changeit", "letmein", "qwerty", "qwertz", "iloveyou", "sunshine", "football", "superman", "princess", "dragon", "monkey", "master", "secret", "operator", "maintenance", "technician", "siemens", "simatic", "rockwell", "beckhoff", "production", "default", "summer", "winter", "sommer", "spring", "autumn", "herbst", "trustno", "baseball", "starwars", "computer", "internet", "passwordpassword", "adminadmin", "correct horse battery staple", "correcthorsebatterystaple", "qwertyqwerty", "unbelievable", "mypassword", "thisismypassword", "ilovemyself", "iloveyouforever"}, word)
}
