package wire

import (
	"net/url"
	"testing"
)

func TestHeaderText(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "pump 7": "pump 7", "Wärmepumpe Süd": "W%C3%A4rmepumpe S%C3%BCd", "100%": "100%25", " a ": "%20a%20", "a\r\nNats-Trace-Dest: b": "a%0D%0ANats-Trace-Dest: b",
		"泵": "%E6%B3%B5", "\x00\x7f\xff": "%00%7F%FF", "a\tb": "a%09b", "$emqx/things/x/y": "$emqx/things/x/y", " ": "%20",
	} {
		got := HeaderText(in)
		if got != want || TextOf(got) != in {
			t.Errorf("%q: %q, want %q; back %q", in, got, want, TextOf(got))
		}
		if u, err := url.PathUnescape(got); err != nil || u != in {
			t.Errorf("%q as a URL: %q, %v", got, u, err)
		}
	}
	for in, want := range map[string]string{"100%": "100%", "5% of ü": "5% of ü", "%zz%4": "%zz%4", "%+1": "%+1"} { // never written by HeaderText
		if got := TextOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzHeaderText(f *testing.F) {
	f.Add("ü % \r\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := HeaderText(s)
		if err := WellFormed("k", []string{got}); err != nil || TextOf(got) != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	})
}
