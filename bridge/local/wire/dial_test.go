package wire

import "testing"

func TestPrintedURLs(t *testing.T) {
	for urls, want := range map[string]string{
		"nats://u:secret@h:1,tls://token@i": "nats://h:1,tls://i", "u:secret@h": "h", "h:4222": "h:4222", "nats://u:p%40@h,x@y@i": "nats://h,i",
	} {
		if got := printed(urls); got != want {
			t.Errorf("%s: %s, want %s", urls, got, want)
		}
	}
}

func TestOlder(t *testing.T) {
	for version, want := range map[string][2]bool{
		"2.12.0": {false, true}, "2.15.2": {false, true}, "3.0.0-dev": {false, true}, "2.11.9": {true, true}, "1.14.1": {true, true}, "": {}, "dev": {}, "2": {},
	} {
		if older, known := Older(version, 2, 12); older != want[0] || known != want[1] {
			t.Errorf("%q: %v, %v", version, older, known)
		}
	}
}
