package door

import (
	"slices"
	"strings"
	"testing"
)

// TestReadAlong: subjects are found however the bytes arrive, and payloads are not taken for commands.
func TestReadAlong(t *testing.T) {
	text := "CONNECT {\"verbose\":false}\r\nPING\r\nPUB a.b 5\r\nhello\r\npub  c  _INBOX.x   0 \r\n\r\nHPUB d.e 12 30\r\nNATS/1.0\r\n\r\nPUB nothing 1\r\nx\r\n\r\nSUB > 1\r\nPONG\r\nPUB\tf\t1\r\ny\r\nUNSUB 1\r\nHPUB g r 12 12\r\nNATS/1.0\r\n\r\n\r\n"
	want := []string{"a.b", "c", "? _INBOX.x", "d.e", "f", "g", "? r"}
	for size := 1; size <= len(text); size++ {
		var got []string
		verbs := ""
		r := readAlong{published: func(s, reply []byte) bool {
			if got = append(got, string(s)); len(reply) > 0 {
				got = append(got, "? "+string(reply))
			}
			return false
		}, other: func(verb byte) bool { verbs += string(verb); return false }}
		for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			r.look(slices.Clone(rest[:min(size, len(rest))]))
		}
		if r.lost || !slices.Equal(got, want) || verbs != "cpspu" {
			t.Fatalf("in pieces of %d: %q, other lines %q, lost %t", size, got, verbs, r.lost)
		}
	}
	for _, bad := range []string{"PUB a x\r\n", "PUB \ra 55\n", "PUB a 5\r \r\n", "PUB a\r 5\r\n", "HMSG a 1 5\r\n", "hmsg a 5\r\n", "HPUBX a 1 5\r\n", "PUX a 5\r\n", "PUB a -1\r\n", "PUB a 1001\r\n", "PUB a 9223372036854775807\r\n", "HPUB a 0 99999999999\r\n", "PUB\r\n", "P\x00\r\n", strings.Repeat("x", longestLine+1)} {
		r := readAlong{most: 1000, published: func(_, _ []byte) bool { t.Errorf("%q publishes", bad); return false }}
		r.look([]byte(bad))
		if !r.lost && bad != "P\x00\r\n" {
			t.Errorf("%.20q is followed", bad)
		}
	}
}

// FuzzReadAlong: whatever a client sends, reading along comes to an end and holds little.
func FuzzReadAlong(f *testing.F) {
	f.Add([]byte("PUB a 1\r\nx\r\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		r := readAlong{published: func(_, _ []byte) bool { return false }}
		for size = max(1, min(size, 64)); len(data) > 0; data = data[min(size, len(data)):] {
			r.look(data[:min(size, len(data))])
			if len(r.line) > longestLine+64 || r.skip < 0 {
				t.Fatal(len(r.line), r.skip)
			}
		}
	})
}

func TestUnfinished(t *testing.T) {
	r := readAlong{published: func(_, _ []byte) bool { return false }}
	for _, c := range []struct {
		text string
		want int
	}{{"PUB a 5\r\nhel", 5}, {"lo", 5}, {"\r\nPING\r\nPU", 0}, {"B b 100\r", 0}, {"\n", 100}, {strings.Repeat("x", 102) + "HPUB c 12 20\r\nNATS", 20},
		{strings.Repeat("x", 18) + "PUB " + strings.Repeat("y", 300) + " 0\r\n\r\n", 300}, {"PUB z 3\r\nab", 303}} { // the server remembers long subjects
		r.look([]byte(c.text))
		if got := r.held(); got != c.want {
			t.Errorf("after %.20q: %d, want %d", c.text, got, c.want)
		}
	}
}
