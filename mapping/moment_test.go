package mapping

import (
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// Trap T24: seconds and milliseconds in one protocol.
func TestT24Moments(t *testing.T) {
	want := time.Unix(1780000000, 0)
	for _, in := range []string{`1780000000`, `1780000000000`, `"1780000000"`, `"1780000000000"`, `1.78e9`, `"2026-05-28T20:26:40Z"`, `"2026-05-28T22:26:40+02:00"`} {
		if got, ok := Moment(gjson.Parse(in)); !ok || !got.Equal(want) {
			t.Errorf("Moment(%s) = %v, %v, want %v", in, got, ok, want)
		}
	}
	for _, in := range []string{`null`, `true`, `{}`, `"soon"`, `-1`, `1e99`, `""`, ``} {
		if got, ok := Moment(gjson.Parse(in)); ok {
			t.Errorf("Moment(%s) = %v", in, got)
		}
	}
	if got, _ := Moment(gjson.Parse(`1780000000123`)); got.UnixMilli() != 1780000000123 {
		t.Error(got)
	}
}
