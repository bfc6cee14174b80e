package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fleetbridge/internal/race"
)

func TestGuardPasses(t *testing.T) {
	deep := strings.Repeat("[", DefaultMaxDepth) + strings.Repeat("]", DefaultMaxDepth)
	for _, payload := range []string{
		`{}`, `[]`, `null`, `true`, `false`, `""`, `0`, "-0", " \t\r\n{ } ", deep,
		`[0,-1,1.5,1e5,1E+5,1e-400,1.0e400,123456789012345678901234567890]`,
		strings.Repeat("9", maxDigits), "0." + strings.Repeat("1", maxDigits-1), "1e" + strings.Repeat("0", 50) + "9",
		`{"a":{"a":{"a":1}},"b":{"a":1}}`, `[{"a":1},{"a":1}]`, `{"":1," ":2,"A":3,"a":4}`,
		`{"é":1,"e\u0301":2}`, // equal to the eye, not normalised
		`"\"\\\/\b\f\n\r\t\u00e9\u0000"`, `"\ud83d\ude00 \uD83D\uDE00"`, `"😀 é \u2028"`, "\"\x7f\"",
		`{"a":[],"b":{},"c":[{}],"d":[[],[1,[2]]]}`,
	} {
		if err := Guard([]byte(payload), Limits{}); err != nil {
			t.Errorf("%.60s: %v", payload, err)
		}
		if !json.Valid([]byte(payload)) {
			t.Errorf("%.60s: is no JSON, the test is wrong", payload)
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	deep := strings.Repeat("[", DefaultMaxDepth+1)
	for _, c := range []struct {
		payload, pointer, message string
		offset                    int
	}{
		{"", "", "is empty, send a JSON object", 0},
		{" \n", "", "is empty, send a JSON object", 0},
		{"\xEF\xBB\xBF{}", "", "begins with a byte order mark, remove it", 0},
		{"\x00", "", "byte 0: expected a value, found '\\x00'", 0},
		{"{}\x00", "", "byte 2: expected the end, found '\\x00'", 2},
		{"{}{}", "", "byte 2: expected the end, found '{'", 2},
		{"{}]", "", "byte 2: expected the end, found ']'", 2},
		{"{]", "", "byte 1: expected a member's name in double quotes, found ']'", 1},
		{"[}", "/0", "byte 1: expected a value, found '}'", 1},
		{`{"a":1`, "/a", `byte 6: expected "," or "}", found the end`, 6},
		{`{"a":1]`, "/a", `byte 6: expected "," or "}", found ']'`, 6},
		{`{"a"`, "/a", `byte 4: expected ":", found the end`, 4},
		{`{"a" 1}`, "/a", `byte 5: expected ":", found '1'`, 5},
		{`{a:1}`, "", "byte 1: expected a member's name in double quotes, found 'a'", 1},
		{`{"a":1,}`, "", "byte 7: expected a member's name in double quotes, found '}'", 7},
		{`{,}`, "", "byte 1: expected a member's name in double quotes, found ','", 1},
		{`[1,]`, "/1", "byte 3: expected a value, found ']'", 3},
		{`[1 2]`, "/0", `byte 3: expected "," or "]", found '2'`, 3},
		{`[1,2`, "/1", `byte 4: expected "," or "]", found the end`, 4},
		{`{"a":`, "/a", "byte 5: ends where a value must follow", 5},
		{`{"x":[0,{"a/b~c":[1,nul]}]}`, "/x/1/a~1b~0c/1", `byte 23: expected 'l' of "null", found ']'`, 23},
		{`"abc`, "", `byte 4: ends within a string, its closing '"' is missing`, 4},
		{`"abc\`, "", `byte 5: ends within a string, its closing '"' is missing`, 5},
		{`"\x"`, "", `byte 1: no such escape, use one of \" \\ \/ \b \f \n \r \t \uXXXX`, 1},
		{`"\u12g4"`, "", `byte 1: four hex digits must follow \u`, 1},
		{`"\u12`, "", `byte 1: four hex digits must follow \u`, 1},
		{"\"a\nb\"", "", `byte 2: a control character in a string, write \u000a`, 2},
		{"\"a\xffb\"", "", "byte 2: 0xFF is no UTF-8 here, encode strings as UTF-8", 2},
		{"\"\xed\xa0\x80\"", "", "byte 1: 0xED is no UTF-8 here, encode strings as UTF-8", 1},
		{"\"\xc0\xaf\"", "", "byte 1: 0xC0 is no UTF-8 here, encode strings as UTF-8", 1},
		{"{\xff}", "", "byte 1: expected a member's name in double quotes, found the byte 0xFF", 1},
		{`"\ud83d"`, "", `byte 1: \ud83d is half of a surrogate pair, write both halves or the character itself`, 1},
		{`"\ude00\ud83d"`, "", `byte 1: \ude00 is half of a surrogate pair, write both halves or the character itself`, 1},
		{`"\ud83d\u0041"`, "", `byte 1: \ud83d is half of a surrogate pair, write both halves or the character itself`, 1},
		{`{"\udead":1}`, "", `byte 2: \udead is half of a surrogate pair, write both halves or the character itself`, 2},
		{"01", "", "byte 0: a number begins with a needless 0, remove it", 0},
		{"-", "", "byte 1: expected a digit, found the end", 1},
		{"-a", "", "byte 1: expected a digit, found 'a'", 1},
		{"1.", "", "byte 2: expected a digit, found the end", 2},
		{"1.e5", "", "byte 2: expected a digit, found 'e'", 2},
		{".5", "", "byte 0: expected a value, found '.'", 0},
		{"+1", "", "byte 0: expected a value, found '+'", 0},
		{"1e", "", "byte 2: expected a digit, found the end", 2},
		{"1e+", "", "byte 3: expected a digit, found the end", 3},
		{"NaN", "", "byte 0: expected a value, found 'N'", 0},
		{"Infinity", "", "byte 0: expected a value, found 'I'", 0},
		{"tru", "", `byte 3: expected 'e' of "true", found the end`, 3},
		{"nullx", "", "byte 4: expected the end, found 'x'", 4},
		{"[1e401]", "/0", "byte 1: a number with an exponent beyond ±400, use a smaller one", 1},
		{"[1e-401]", "/0", "byte 1: a number with an exponent beyond ±400, use a smaller one", 1},
		{"1e99999999999999999999", "", "byte 0: a number with an exponent beyond ±400, use a smaller one", 0},
		{strings.Repeat("1", maxDigits+1), "", "byte 0: a number with 401 digits, at most 400 are allowed", 0},
		{`{"a":1,"a":2}`, "/a", "byte 7: is there twice, remove one", 7},
		{`{"a":1,"\u0061":2}`, "/a", "byte 7: is there twice, remove one", 7},
		{`{"\u0061":1,"a":2}`, "/a", "byte 12: is there twice, remove one", 12},
		{`{"\n":1,"\u000A":2}`, "/\n", "byte 8: is there twice, remove one", 8},
		{`{"😀":1,"\ud83d\uDe00":2}`, "/😀", "byte 10: is there twice, remove one", 10},
		{`{"x":[1,{"b":{"k":1},"c":2,"b":3}]}`, "/x/1/b", "byte 27: is there twice, remove one", 27},
		{`{"a":{"b":1},"":0,"":0}`, "/", "byte 18: is there twice, remove one", 18},
		{deep, strings.Repeat("/0", DefaultMaxDepth), "byte 64: is nested deeper than 64 levels, flatten it", 64},
		{strings.Repeat(" ", DefaultMaxBytes) + "{", "", "has 131073 bytes, at most 131072 are allowed", DefaultMaxBytes},
	} {
		var e *Error
		if err := Guard([]byte(c.payload), Limits{}); !errors.As(err, &e) {
			t.Errorf("%.60q: got %v, want an *Error", c.payload, err)
			continue
		}
		code := CodeJSON
		if strings.Contains(c.message, "deeper") || strings.Contains(c.message, "at most 131072") {
			code = CodeTooLarge
		}
		want := Error{Code: code, Details: []Detail{{c.pointer, c.message}}, Offset: c.offset}
		if e.Code != want.Code || len(e.Details) != 1 || e.Details[0] != want.Details[0] || e.Offset != want.Offset {
			t.Errorf("%.60q:\n got %+v\nwant %+v", c.payload, *e, want)
		}
	}
}

// Bytes that are looked at eight at once are judged as they would be alone, wherever they stand.
func TestGuardSeesEveryByte(t *testing.T) {
	for b := 0; b < 256; b += race.Step() {
		for length := range 20 {
			for at := range length {
				for _, fill := range []string{"a", " ", "\x7f", "!", "#", "[", "]"} {
					inside := []byte(strings.Repeat(fill, length))
					inside[at] = byte(b)
					want := at
					if b >= ' ' && b < utf8.RuneSelf && b != '"' && b != '\\' {
						want = length
					}
					if got := ordinary(inside); got != want {
						t.Fatalf("%q: %d ordinary bytes, want %d", inside, got, want)
					}
				}
			}
		}
	}
}

// Objects with thousands of keys must cost time in proportion, and duplicates in them be found.
func TestGuardManyKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"first":{"first":1}`)
	n := race.Part(60_000)
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":{"k%d":0}`, i, i)
	}
	var twin strings.Builder // the same names in another object
	for i := range 1000 {
		fmt.Fprintf(&twin, `"k%d":1,`, i)
	}
	good := b.String() + `,"twins":[{` + twin.String() + `"x":0},{` + twin.String() + `"x":0}]}`
	limits := Limits{MaxBytes: 4 << 20}
	began := time.Now()
	if err := Guard([]byte(good), limits); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	for _, again := range []string{"first", "k0", "k31", fmt.Sprintf("k%d", n-1), fmt.Sprintf(`\u006b%d`, n*2/3)} {
		if err := Guard([]byte(b.String()+`,"`+again+`":0}`), limits); err == nil || !strings.Contains(err.Error(), "is there twice") {
			t.Errorf("%s: %v", again, err)
		}
	}
}

// The race detector lets pools lose what they hold now and then: less than one for each payload.
func TestGuardDoesNotAllocate(t *testing.T) {
	c, payload := catalog(t), []byte(report300)
	if n := testing.AllocsPerRun(100, func() {
		if err := c.Guard(payload); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// stricter tells, by other means than Guard's, why valid JSON may be refused; "" if nothing is
// known against it.
func stricter(payload []byte, l Limits) string {
	l = l.orDefault()
	switch {
	case len(payload) > l.MaxBytes:
		return "bytes"
	case !utf8.Valid(payload):
		return "utf8"
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	type level struct {
		object, value bool // value: a value is next, not a name
		names         map[string]bool
	}
	var levels []level
	for {
		from := d.InputOffset()
		token, err := d.Token()
		if err == io.EOF {
			return ""
		}
		if err != nil {
			return "no JSON"
		}
		raw := payload[from:d.InputOffset()]
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				levels = append(levels, level{object: v == '{', names: map[string]bool{}})
				if len(levels) > l.MaxDepth {
					return "depth"
				}
				continue
			}
			levels = levels[:len(levels)-1]
		case json.Number:
			digits, exponent, _ := strings.Cut(strings.ToLower(string(v)), "e")
			if len(strings.Trim(strings.ReplaceAll(digits, ".", ""), "-")) > maxDigits {
				return "digits"
			}
			if e := strings.TrimLeft(strings.Trim(exponent, "+-"), "0"); len(e) > 3 || len(e) == 3 && e > "400" {
				return "exponent"
			}
		case string:
			// Written out again, a string with half a pair has a replacement character more.
			if strings.Count(v, "\uFFFD") > bytes.Count(raw, []byte("\uFFFD"))+strings.Count(strings.ToLower(string(raw)), `\ufffd`) {
				return "surrogate"
			}
			if top := len(levels) - 1; top >= 0 && levels[top].object && !levels[top].value {
				if levels[top].names[v] {
					return "twice"
				}
				levels[top].names[v] = true
				levels[top].value = true
				continue
			}
		}
		if top := len(levels) - 1; top >= 0 {
			levels[top].value = false
		}
	}
}

// Guard and encoding/json agree on what is JSON, but for the stricter points, which an oracle must
// confirm one by one, both ways.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{`{"a":1,"\u0061":2}`, `["\ud800"]`, `{"a":{"b":[1e5,-0.1]}}`, "\xEF\xBB\xBF{}", `[[[[[]]]]]`, `1e401`, `"\ufffd"`, "\"\xff\"", report300} {
		f.Add([]byte(s))
	}
	limits := Limits{MaxBytes: 4096, MaxDepth: 6}
	f.Fuzz(func(t *testing.T, payload []byte) {
		err := Guard(payload, limits)
		valid := json.Valid(payload)
		switch {
		case err == nil && !valid:
			t.Fatalf("%q passes and is no JSON", payload)
		case err == nil && stricter(payload, limits) != "":
			t.Fatalf("%q passes: %s", payload, stricter(payload, limits))
		case err != nil && valid && stricter(payload, limits) == "":
			t.Fatalf("%q is refused for no reason: %v", payload, err)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || len(e.Details) != 1 || e.Offset < 0 || e.Offset > len(payload) || !utf8.ValidString(e.Error())) {
			t.Fatalf("%q: %+v", payload, err)
		}
	})
}

const report300 = `{"state":{"reported":{"temperature":21.5,"humidity":58,"targetTemperature":22,"mode":"auto","valve":{"open":true,"position":0.75},` +
	`"firmware":"2.14.0-rc1","uptime":1780000000,"alarms":["filter","door"],"network":{"rssi":-61,"ssid":"hall-2"}}},"clientToken":"br1-000017","version":3141}`

func BenchmarkGuard(b *testing.B) {
	c, payload := catalog(b), []byte(report300)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Guard(payload); err != nil {
			b.Fatal(err)
		}
	}
}
