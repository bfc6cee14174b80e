package cloud

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eclipse/paho.golang/packets"
)

// TestSubackWords: what the broker says of a refusal reaches log and state, in one line that forges nothing.
func TestSubackWords(t *testing.T) {
	for name, c := range map[string]struct{ words, want string }{
		"plain":         {"rule 7 says no", `("rule 7 says no")`},
		"a forged line": {"no\nlevel=ERROR msg=fire", `("no\nlevel=ERROR msg=fire")`},
		"turned round":  {"no \u202Eeman", `("no \u202eeman")`},
		"an escape":     {"\x1b[2Jno", `("\x1b[2Jno")`},
		"very long":     {strings.Repeat("no ", 20000), `("no no `},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(st *stage) {
				p := st.call()
				p.connack(0, false)
				sub := p.next().Content.(*packets.Subscribe)
				answer := &packets.Suback{PacketID: sub.PacketID, Properties: &packets.Properties{ReasonString: c.words}, Reasons: []byte{0x87}}
				for range len(sub.Subscriptions) - 1 {
					answer.Reasons = append(answer.Reasons, 1)
				}
				p.send(answer)
				synctest.Wait()
				got := st.s.State().LastError
				if !strings.Contains(got, c.want) || strings.ContainsAny(got, "\n\x1b\u202e") || len(got) > 2000 {
					t.Errorf("LastError %q, want %s", got, c.want)
				}
			})
		})
	}
}

// TestMendOfNames: a certificate that has no names can't be called by one of them.
func TestMendOfNames(t *testing.T) {
	for name, c := range map[string]struct {
		certificate x509.Certificate
		want        string
	}{
		"a Common Name only": {x509.Certificate{}, "make the server's certificate anew with a subjectAltName"},
		"another name":       {x509.Certificate{DNSNames: []string{"other"}}, "write a name that the certificate has"},
		"an address":         {x509.Certificate{IPAddresses: []net.IP{{127, 0, 0, 1}}}, "write a name that the certificate has"},
		"a mail address":     {x509.Certificate{EmailAddresses: []string{"a@b"}}, "make the server's certificate anew with a subjectAltName"},
	} {
		t.Run(name, func(t *testing.T) {
			err := withMend(errors.Join(x509.HostnameError{Certificate: &c.certificate, Host: "broker"}), "mqtt.tls")
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
