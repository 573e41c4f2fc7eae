package channel

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

// TestExpand: the vector of P_SHA256 that implementers of TLS 1.2 check theirs by
// (https://www.ietf.org/mail-archive/web/tls/current/msg03416.html).
func TestExpand(t *testing.T) {
	secret, seed := unhex(t, "9bbe436ba940f017b17652849a71db35"), unhex(t, "a0ba9f936cda311827a6f796ffd5198c")
	want := "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66"
	if got := hex.EncodeToString(expand(secret, append([]byte("test label"), seed...), len(want)/2)); got != want {
		t.Errorf("got %s", got)
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nonces are what both sides drew.
func nonces() (own, remote []byte) {
	for i := range byte(32) {
		own, remote = append(own, i), append(remote, 200-3*i)
	}
	return own, remote
}

func symmetrical() []string {
	return []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss}
}

// pair are this client's keys, and the server's as the library makes them.
func pair(t testing.TB, policy string) (client *symmetric, server *uapolicy.EncryptionAlgorithm) {
	t.Helper()
	own, remote := nonces()
	client, err := derive(policy, own, remote)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = uapolicy.Symmetric(policy, remote, own); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestSymmetric_IsTheLibrarys: chunk for chunk the same bytes as the library's, both
// ways, whatever came before.
func TestSymmetric_IsTheLibrarys(t *testing.T) {
	for _, policy := range symmetrical() {
		client, server := pair(t, policy)
		own, remote := nonces()
		same, err := uapolicy.Symmetric(policy, own, remote)
		if err != nil {
			t.Fatal(err)
		}
		for _, encrypt := range []bool{false, true} {
			for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 31, 32, 4000, 60_000} {
				piece := bytes.Repeat([]byte{byte(n), 7, 9}, n)[:n]
				f := framer{kind: "MSG", channel: 7, security: []byte{1, 0, 0, 0}, algo: client, sign: true, encrypt: encrypt}
				ours, err := f.frame(nil, true, 5, 6, piece)
				if err != nil {
					t.Fatal(err)
				}
				f.algo = same
				if theirs, err := f.frame(nil, true, 5, 6, piece); err != nil || !bytes.Equal(ours, theirs) {
					t.Fatalf("%s, %d bytes: %x, the library makes %x (%v)", policy, n, ours, theirs, err)
				}
				f.algo = server
				answer, err := f.frame(nil, true, 5, 6, piece)
				if err != nil {
					t.Fatal(err)
				}
				got, err := unlock(answer, messageHead+tokenHead, client, encrypt)
				if err != nil || !bytes.Equal(got[sequenceHead:], piece) {
					t.Fatalf("%s, %d bytes from the server: %v", policy, n, err)
				}
			}
		}
	}
}

// TestSymmetric_OtherBytes: a chunk with one bit changed is refused, and the next good
// one is not.
func TestSymmetric_OtherBytes(t *testing.T) {
	for _, policy := range symmetrical() {
		client, server := pair(t, policy)
		for _, encrypt := range []bool{false, true} {
			f := framer{kind: "MSG", channel: 7, security: []byte{1, 0, 0, 0}, algo: server, sign: true, encrypt: encrypt}
			whole, err := f.frame(nil, true, 5, 6, []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			for at := range whole {
				b := slices.Clone(whole)
				b[at] ^= 4
				if _, err := unlock(b, messageHead+tokenHead, client, encrypt); !errors.Is(err, ErrSecurity) {
					t.Fatalf("%s, byte %d changed: %v", policy, at, err)
				}
			}
			if got, err := unlock(whole, messageHead+tokenHead, client, encrypt); err != nil || string(got[sequenceHead:]) != "hello" {
				t.Errorf("%s: %q, %v", policy, got, err)
			}
		}
	}
	if _, err := derive(ua.SecurityPolicyURIBasic128Rsa15, nil, nil); err == nil {
		t.Error("keys of a policy that is not spoken")
	}
}

// TestSymmetric_TakesNoRoom: a chunk costs no allocation, sent or taken.
func TestSymmetric_TakesNoRoom(t *testing.T) {
	client, server := pair(t, ua.SecurityPolicyURIBasic256Sha256)
	f := framer{kind: "MSG", channel: 7, security: []byte{1, 0, 0, 0}, algo: server, sign: true, encrypt: true}
	sealed, err := f.frame(nil, true, 5, 6, make([]byte, 30_000))
	if err != nil {
		t.Fatal(err)
	}
	f.algo = client
	b, out, piece := make([]byte, len(sealed)), make([]byte, 0, 1000), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		copy(b, sealed)
		_, _ = unlock(b, messageHead+tokenHead, client, true)
		_, _ = f.frame(out, true, 5, 6, piece)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkUnlock: a message of a thousand numbers, with the keys here and with those
// of the library.
func BenchmarkUnlock(b *testing.B) {
	for _, policy := range symmetrical()[:2] {
		client, server := pair(b, policy)
		own, remote := nonces()
		theirs, err := uapolicy.Symmetric(policy, own, remote)
		if err != nil {
			b.Fatal(err)
		}
		f := framer{kind: "MSG", channel: 7, security: []byte{1, 0, 0, 0}, algo: server, sign: true, encrypt: true}
		sealed, err := f.frame(nil, true, 5, 6, make([]byte, 30_000))
		if err != nil {
			b.Fatal(err)
		}
		for name, algo := range map[string]algorithm{"own": client, "library": theirs} {
			b.Run(policy[len("http://opcfoundation.org/UA/SecurityPolicy#"):]+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(sealed)))
				room := make([]byte, len(sealed))
				for b.Loop() {
					copy(room, sealed)
					if _, err := unlock(room, messageHead+tokenHead, algo, true); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
