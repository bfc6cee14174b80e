package letters

import (
	"strings"
	"testing"
)

func FuzzStrayTail(f *testing.F) {
	f.Add("pump.events.*.>")
	f.Add("a..b. .\r\n")
	f.Add(strings.Repeat("x.", 2000))
	f.Fuzz(func(t *testing.T, tail string) {
		got := strayTail(tail)
		if len(got) > maxTail+10 || got == "" {
			t.Errorf("%d bytes", len(got))
		}
		for token := range strings.SplitSeq(got, ".") {
			if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
				t.Errorf("token %q", token)
			}
		}
		if again := strayTail(got); again != got && !strings.HasSuffix(got, "=cut") {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
