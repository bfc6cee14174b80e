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
