package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In a file it is written with a binary unit, 256MiB, or as plain bytes.
type Size int64

// sizeUnits, the largest first.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String prints the size as a file would spell it, in the largest unit that needs no fraction.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Size) UnmarshalText(text []byte) error {
	number, unit := splitUnit(string(text))
	scale := int64(1)
	if unit != "" {
		scale = 0
		for _, u := range sizeUnits {
			if u.name == unit {
				scale = u.bytes
			}
		}
	}
	if scale == 0 || number == "" {
		for _, u := range sizeUnits { // 1GB, 1g, 1gib
			if number != "" && unit != "" && strings.EqualFold(unit[:1], u.name[:1]) {
				return fmt.Errorf("%q has no known unit, write %s%s", text, number, u.name)
			}
		}
		return fmt.Errorf("%q is no size, write bytes or a number with KiB, MiB, GiB or TiB, such as 256MiB", text)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%q is no whole number of %s, use a smaller unit", text, cmp.Or(unit, "bytes"))
	case err != nil || n > math.MaxInt64/scale || n < math.MinInt64/scale:
		return fmt.Errorf("%q is too large", text)
	}
	*s = Size(n * scale)
	return nil
}

// splitUnit cuts "256MiB" in "256" and "MiB".
func splitUnit(text string) (number, unit string) {
	text = strings.TrimSpace(text)
	number = strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	return strings.TrimSpace(number), text[len(number):]
}

// Sync is when the embedded server forces what it stored to disk: Always, before it acknowledges,
// or once in every Interval.
type Sync struct {
	Always   bool
	Interval time.Duration
}

func (s Sync) String() string {
	if s.Always {
		return "always"
	}
	return shortDuration(s.Interval)
}

func (s Sync) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Sync) UnmarshalText(text []byte) error {
	if string(text) == "always" {
		*s = Sync{Always: true}
		return nil
	}
	d, err := parseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%w, or always", err)
	}
	if d <= 0 {
		return fmt.Errorf("%q must be more than 0, or always", text)
	}
	*s = Sync{Interval: d}
	return nil
}

// parseDuration reads a Go duration; its errors name the mend.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	number, unit := splitUnit(text)
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case err == nil && unit == "":
		return 0, fmt.Errorf("%q has no unit, write %ss", text, number)
	case err == nil && (unit == "d" || unit == "day" || unit == "days"):
		return 0, fmt.Errorf("%q: d is no unit here, write %sh", text, strconv.FormatFloat(n*24, 'f', -1, 64))
	case err == nil && (unit == "w" || unit == "week" || unit == "weeks"):
		return 0, fmt.Errorf("%q: w is no unit here, write %sh", text, strconv.FormatFloat(n*168, 'f', -1, 64))
	}
	return 0, fmt.Errorf("%q is no duration, write a number with ms, s, m or h, such as 30s", text)
}

// shortDuration prints 168h, not 168h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
