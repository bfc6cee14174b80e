package gateway

import (
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"0": 0, "17": 17, "17B": 17, "1KiB": 1024, "256MiB": 256 << 20, "1GiB": 1 << 30,
		"2TiB": 2 << 40, "1 GiB": 1 << 30, "-1": -1, "9223372036854775807": 1<<63 - 1} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                    `"" is no size, write bytes or a number with KiB, MiB, GiB or TiB, such as 256MiB`,
		"GiB":                 `"GiB" is no size, write bytes or a number with KiB, MiB, GiB or TiB, such as 256MiB`,
		"1g":                  `"1g" has no known unit, write 1GiB`,
		"5mib":                `"5mib" has no known unit, write 5MiB`,
		"5QiB":                `"5QiB" is no size, write bytes or a number with KiB, MiB, GiB or TiB, such as 256MiB`,
		"1.5":                 `"1.5" is no whole number of bytes, use a smaller unit`,
		"9223372036854775808": `"9223372036854775808" is too large`,
		"8388608TiB":          `"8388608TiB" is too large`,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// A size is printed as a file would spell it.
func FuzzSize(f *testing.F) {
	for _, n := range []int64{0, 1, 1023, 1024, 1 << 20, 3 << 30, 1 << 40, -1024, 1<<63 - 1} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		var back Size
		if err := back.UnmarshalText([]byte(Size(n).String())); err != nil || back != Size(n) {
			t.Errorf("%d is printed %s, which reads %d, %v", n, Size(n), back, err)
		}
	})
}

func TestSync(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Sync{"always": {Always: true}, "1s": {Interval: time.Second}, "2m30s": {Interval: 150 * time.Second}} {
		var got Sync
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"0s":    `"0s" must be more than 0, or always`,
		"10":    `"10" has no unit, write 10s, or always`,
		"never": `"never" is no duration, write a number with ms, s, m or h, such as 30s, or always`,
	} {
		var got Sync
		if err := got.UnmarshalText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestShortDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 168 * time.Hour: "168h", time.Hour + 10*time.Minute: "1h10m", time.Hour + 10*time.Second: "1h0m10s",
		10 * time.Minute: "10m", 1500 * time.Millisecond: "1.5s"} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
