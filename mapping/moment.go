package mapping

import (
	"time"

	"github.com/tidwall/gjson"
)

// millisFrom is the number from which a Unix time must be in milliseconds: in seconds it would be in
// the year 5138. The protocol mixes both units.
const millisFrom = 1e11

// Moment reads a time of the protocol, whatever its unit: a Unix time in seconds or milliseconds,
// as a number or as a string that holds one, or an RFC 3339 string. ok is false for anything else.
func Moment(v gjson.Result) (t time.Time, ok bool) {
	switch v.Type {
	case gjson.Number:
	case gjson.String:
		if t, err := time.Parse(time.RFC3339Nano, v.Str); err == nil {
			return t, true
		}
		if v = gjson.Parse(v.Str); v.Type != gjson.Number {
			return time.Time{}, false
		}
	default:
		return time.Time{}, false
	}
	n := v.Float()
	switch {
	case !(n >= 0 && n < 1e15):
		return time.Time{}, false
	case n >= millisFrom:
		return time.UnixMicro(int64(n * 1e3)), true
	default:
		return time.UnixMicro(int64(n * 1e6)), true
	}
}
