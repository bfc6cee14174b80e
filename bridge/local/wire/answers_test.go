package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/micro"

	"fleetbridge/bridge"
	"fleetbridge/schemas"
)

// Every answer fits, however much it has to say, and however little NATS takes.
func TestAnswersFit(t *testing.T) {
	details := func(n int, pointer, message string) (all []schemas.Detail) {
		for i := range n {
			all = append(all, schemas.Detail{Pointer: fmt.Sprintf("%s/%d", pointer, i), Message: message})
		}
		return all
	}
	long := strings.Repeat("\u0001<", 8_000) // in JSON six times as long
	trace := bridge.Trace{Parent: strings.Repeat("p", MaxTrace), State: strings.Repeat("s", MaxTrace)}
	for name, c := range map[string]struct {
		response bridge.Response
		err      error
		code     string // "" is success where there is room
	}{
		"small":                {bridge.Response{Payload: []byte(`{}`)}, nil, ""},
		"payload":              {bridge.Response{Payload: []byte(long), Trace: trace}, nil, ""},
		"header":               {bridge.Response{Header: map[string]string{"A": long}}, nil, ""},
		"error":                {bridge.Response{Payload: []byte(long)}, errors.New(long), "500"},
		"many details":         {bridge.Response{Trace: trace}, &bridge.RequestError{Code: 400, Message: "m", Details: details(5000, "/a", "is wrong")}, "400"},
		"a long pointer":       {bridge.Response{}, &bridge.RequestError{Code: 400, Message: "m", Details: details(1, "/"+long, "is wrong")}, "400"},
		"long messages":        {bridge.Response{Trace: trace}, &bridge.RequestError{Code: 400, Message: long, Details: details(12, "/"+long, long)}, "400"},
		"no message":           {bridge.Response{}, &bridge.RequestError{Code: 503}, "503"},
		"lines in the message": {bridge.Response{}, &bridge.RequestError{Code: 409, Message: "a\r\nb: c" + long}, "409"},
	} {
		for _, room := range []int{256, 1024, 4096, 64 << 10, 256 << 10} {
			m := Answer("reply", c.response, c.err, room)
			if n := Size(m); n > room {
				t.Errorf("%s: %d bytes in %d", name, n, room)
			}
			code := m.Header.Get(micro.ErrorCodeHeader)
			if code != c.code && !(c.code == "" && code == "500" && room < 64<<10) {
				t.Errorf("%s in %d: code %q", name, room, code)
			}
			var body bridge.RequestError
			if c.err != nil && len(m.Data) > 0 && (json.Unmarshal(m.Data, &body) != nil || fmt.Sprint(body.Code) != c.code) {
				t.Errorf("%s in %d: body %.100s", name, room, m.Data)
			}
			if c.code != "" && room >= 4096 && (len(m.Data) == 0 || m.Header.Get(micro.ErrorHeader) == "") {
				t.Errorf("%s in %d: nothing is said", name, room)
			}
		}
	}
}
