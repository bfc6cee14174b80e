package schemas

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const pumpType = `{"name":"com.acme.pump","version":"1.0.0","description":"","tags":["hall-2"],
 "schema":{
  "properties":{"rpm":{"type":"int","unit":"1/min","min":0,"max":3000,"writable":true},"mode":{"type":"enum","values":["auto","off"]},
    "serial":{"type":"string","writable":false},"hall/1":{"type":"float","unit":"m"},"place":{"type":"geo","precision":3}},
  "events":{"info":{"boot":{}},"warn":{"dryRun":{}},"error":{"dryRun":{"payload":{"pressure":{"type":"float","unit":"bar"}}}}},
  "commands":{"purge":{"type":"sync","timeoutMs":5000,"input":{"sec":{"type":"int","min":1,"unit":"s"}},"output":{"litres":{"type":"number"}}},
              "selfTest":{"type":"async","timeoutMs":30000,"input":{}}},
  "connectivity":{"protocol":"mqtt"}}}`

func writeType(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pump.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThingType(t *testing.T) {
	s, tt, err := catalog(t).LoadThingType(writeType(t, pumpType))
	if err != nil {
		t.Fatal(err)
	}
	if tt.Name != "com.acme.pump" || tt.Version != "1.0.0" {
		t.Error(tt.Name, tt.Version)
	}
	notes := `[/schema/properties/place/precision: is not known, and changes nothing here /schema/properties/place/type: the type "geo" is not known, so the value is not checked]`
	if got := fmt.Sprint(tt.Notes); got != notes {
		t.Errorf("notes: got %s\nwant %s", got, notes)
	}
	for _, c := range []struct{ channel, payload, want string }{
		{"shadow.report", `{"state":{"reported":{"rpm":1450,"mode":"auto","serial":"x","other":[1],"place":{},"hall/1":2}}}`, ""},
		{"shadow.report", `{"state":{"reported":{"rpm":3200}}}`, "/state/reported/rpm: must be an integer from 0 to 3000, is 3200 (in 1/min)"},
		{"shadow.report", `{"state":{"reported":{"rpm":"fast","mode":null}}}`, `/state/reported/rpm: must be an integer from 0 to 3000, is the string "fast" (in 1/min)`},
		{"shadow.report", `{"state":{"reported":{"mode":"on"}}}`, `/state/reported/mode: "on" is not allowed, use one of auto, off`},
		{"shadow.report", `{"state":{"reported":{"hall/1":"far"}}}`, `/state/reported/hall~11: must be a number, is the string "far" (in m)`},
		{"event", `{"eventType":"boot","severity":"info","data":{"any":1}}`, ""},
		{"event", `{"eventType":"boot","severity":"error"}`, `/severity: "error" is not the severity that the Thing Type gives this event, use info`},
		{"event", `{"eventType":"dryRun","severity":"info"}`, `/severity: "info" is not the severity that the Thing Type gives this event, use error or warn`},
		{"event", `{"eventType":"unknown","severity":"error","data":17}`, ""},
		{"command.request", `{"action":"purge","params":{"sec":5}}`, ""},
		{"command.request", `{"action":"purge","params":{"sec":0}}`, "/params/sec: must be an integer of 1 or more, is 0 (in s)"},
		{"command.request", `{"action":"unknown","params":{"sec":0}}`, ""},
		{"command.request", `{"action":"dryRun","severity":"none"}`, ""}, // of the name of an event
	} {
		if got := words(s.Check(context.Background(), c.channel, []byte(c.payload))); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.channel, c.payload, got, c.want)
		}
	}
	for _, c := range []struct{ action, payload, want string }{
		{"purge", `{"status":"SUCCEEDED","result":{"litres":2.5}}`, ""},
		{"purge", `{"status":"SUCCEEDED"}`, ""},
		{"purge", ``, ""},
		{"unknown", `{"status":"SUCCEEDED","result":{"litres":"many"}}`, ""},
		{"purge", `{"status":"SUCCEEDED","result":{"litres":"many"}}`, `/result/litres: must be a number, is the string "many"`},
	} {
		if got := words(s.CheckResult(context.Background(), c.action, []byte(c.payload))); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.action, c.payload, got, c.want)
		}
	}
	if got := fmt.Sprint(s.NotWritable([]string{"serial", "rpm", "mode", "other"})); got != "[serial]" {
		t.Errorf("not writable: %s", got)
	}
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestThingTypeFiles: the files that a Thing Type becomes are a schema directory that says the same.
func TestThingTypeFiles(t *testing.T) {
	tt, err := ReadThingType([]byte(pumpType))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for path, text := range tt.Files() {
		files[path] = string(text)
	}
	s := load(t, files)
	for payload, want := range map[string]string{
		`{"state":{"reported":{"rpm":3200}}}`: "/state/reported/rpm: must be an integer from 0 to 3000, is 3200",
		`{"state":{"reported":{"rpm":3000}}}`: "",
	} {
		if got := words(s.Check(context.Background(), "shadow.report", []byte(payload))); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(files) != 5 {
		t.Errorf("%d files", len(files))
	}
}

// TestBothSchemas: with a directory besides, both hold.
func TestBothSchemas(t *testing.T) {
	own := load(t, map[string]string{"reported.schema.json": `{"required":["rpm"]}`})
	typed, _, err := catalog(t).LoadThingType(writeType(t, pumpType))
	if err != nil {
		t.Fatal(err)
	}
	both := typed.With(own)
	for payload, want := range map[string]string{
		`{"state":{"reported":{"rpm":1}}}`:    "",
		`{"state":{"reported":{"mode":"x"}}}`: "/state/reported/rpm: is missing",
		`{"state":{"reported":{"rpm":-1}}}`:   "/state/reported/rpm: must be an integer from 0 to 3000",
	} {
		if got := words(both.Check(context.Background(), "shadow.report", []byte(payload))); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
	if none := (*ThingSchemas)(nil); none.With(own) != own || own.With(none) != own {
		t.Error("one alone is itself")
	}
}

func TestBadThingType(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{`{"schema":{}}`, "/schema: has no properties, events or commands; is it a Thing Type?"},
		{`[]`, "must be an object"},
		{`{"properties":{"a":1}}`, "/properties/a: must be an object"},
		{`{"properties":{"a":{"type":"enum"}}}`, "/properties/a: is an enum without values, add them"},
		{`{"properties":{"a":{"min":"0","values":[],"writable":1}}}`, "/properties/a/min: must be a number"},
		{`{"events":{"fatal":{}}}`, "/events/fatal: is no severity, use one of info, warn, error"},
		{`{"events":{"info":{"a/b":{}}}}`, "/events/info/a~1b: "},
		{`{"commands":[]}`, "/commands: must be an object"},
		{`{"properties":{}`, "pump.json:1: "},
		{`{"properties":{"a":{"type":"Enum"}}}`, "/properties/a: is an enum without values, add them"},
		{`{"properties":{"a":{"type":"int","min":10,"max":5}}}`, "/properties/a: has a least value of 10 and a greatest of 5, so nothing is allowed; swap them"},
		{`{"properties":{"a":{"type":"int","min":-0.8,"max":-0.2}}}`, "/properties/a: has no whole number from -0.8 to -0.2, so nothing is allowed; widen the range"},
		{`{"properties":{"a":{"type":"int","min":1,"minimum":2}}}`, "/properties/a/min: is given beside minimum, keep one of them"},
		{`{"properties":{"a":{"type":"int","values":["x",1.5]}}}`, "/properties/a/values: has no value of the type, which is integer"},
		{`{"properties":{"a":{"values":[1],"enum":[2]}}}`, "/properties/a/enum: is given beside values, keep one of them"},
	} {
		_, _, err := catalog(t).LoadThingType(writeType(t, c.file))
		if got := words(err); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.file, got, c.want)
		}
	}
	if _, _, err := catalog(t).LoadThingType("nowhere.json"); err == nil || !strings.Contains(err.Error(), "nowhere.json") {
		t.Error(err)
	}
}

// TestTolerated: what is not understood passes, and is said.
func TestTolerated(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{`{"id":"1","name":"x","version":"1","createdAt":"","tags":[],"color":"red","schema":{"Properties":{},"telemetry":{},"edge":{},"properties":{}}}`,
			`[/color: is not known, and changes nothing here /schema/Properties: is not known, and changes nothing here /schema/telemetry: is not known, and changes nothing here]`},
		{`{"name":5,"version":2,"schema":{"properties":{"a":{"type":"int","unit":3}}}}`,
			`[/name: is no text, and is left out /schema/properties/a/unit: is no text, and is left out /version: is no text, and is left out]`},
		{`{"properties":{"a":{"type":["int","null"],"min":3},"b":{"type":null},"c":{"type":"string","min":3},"d":{}}}`,
			`[/properties/a/type: the type ["int","null"] is not known, so the value is not checked /properties/b/type: the type null is not known, so the value is not checked ` +
				`/properties/c/min: changes nothing here: only numbers have a range]`},
		{`{"properties":{"a":{"type":"int","min":0.5,"max":1.5,"values":[1,"x"]},"b":{"type":"enum","values":["x",1,null,true,{"k":1},"x"]}},"commands":{"c":null,"a/../?b %":{}},"events":{"info":{"e":null}}}`, `[]`},
	} {
		own, tt, err := catalog(t).LoadThingType(writeType(t, c.file))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if got := fmt.Sprint(tt.Notes); got != c.want {
			t.Errorf("%s: got %s, want %s", c.file, got, c.want)
		}
		if err := own.Check(context.Background(), "shadow.report", []byte(`{"state":{"reported":{"a":1,"b":true,"c":"d","d":[]}}}`)); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
	}
}

// TestEventBySeverity: the data of an event are those of its severity.
func TestEventBySeverity(t *testing.T) {
	own, _, err := catalog(t).LoadThingType(writeType(t, `{"events":{"info":{"e":{"payload":{"p":{"type":"int","max":9,"unit":"bar"}}}},"warn":{"e":{"payload":{"p":{"type":"string"}}}},"error":{"e":null}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"eventType":"e","severity":"info","data":{"p":9}}`:   "",
		`{"eventType":"e","severity":"info","data":{"p":10}}`:  "/data/p: must be an integer of at most 9, is 10 (in bar)",
		`{"eventType":"e","severity":"info","data":{"p":"x"}}`: `/data/p: must be an integer of at most 9, is the string "x" (in bar)`,
		`{"eventType":"e","severity":"warn","data":{"p":"x"}}`: "",
		`{"eventType":"e","severity":"warn","data":{"p":10}}`:  "/data/p: must be a string, is 10",
		`{"eventType":"e","severity":"error","data":{"p":[]}}`: "",
		`{"eventType":"e","severity":"error"}`:                 "",
	} {
		if got := words(own.Check(context.Background(), "event", []byte(payload))); got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
}

func FuzzThingType(f *testing.F) {
	for _, seed := range []string{pumpType, `{"properties":{"a":{"type":"int","min":1}}}`, `{"events":{"info":{"a":{"payload":{"b":{"values":[1]}}}}}}`} {
		f.Add([]byte(seed))
	}
	c := catalog(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		tt, err := ReadThingType(data)
		if err != nil {
			return
		}
		if s, err := c.compileThingType("x.json", tt); err == nil {
			_ = s.Check(context.Background(), "shadow.report", []byte(`{"state":{"reported":{"a":1}}}`))
		}
	})
}

// A unit is in each error about its value.
func TestLongUnit(t *testing.T) {
	own, _, err := catalog(t).LoadThingType(writeType(t, `{"properties":{"p":{"type":"int","unit":"`+strings.Repeat("u", 200_000)+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	err = own.Check(t.Context(), "shadow.report", []byte(`{"state":{"reported":{"p":"x"}}}`))
	if err == nil || !strings.Contains(err.Error(), "(in uuu") || len(err.Error()) > 500 {
		t.Errorf("%.600v", err)
	}
}

// A Thing Type that becomes more than a Thing may have is refused in a line, as every file that slips into a running
// bridge's configuration.
func TestLargeThingType(t *testing.T) {
	list := func(n int, each string) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(each, i))
		}
		return strings.Join(out, ",")
	}
	for name, file := range map[string]string{
		"events":     `{"events":{"info":{` + list(maxFolderFiles+1, `"e%d":{}`) + `}}}`,
		"commands":   `{"commands":{` + list(maxFolderFiles/2+1, `"c%d":{}`) + `}}`,
		"values":     `{"properties":{"p":{"type":"enum","values":[` + list(120_000, "%d") + `]}}}`,
		"properties": `{"properties":{` + list(40_000, `"p%d":{"type":"int"}`) + `}}`,
	} {
		path := writeType(t, file)
		_, _, err := catalog(t).LoadThingType(path)
		if err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), "declare less") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	if own, _, err := catalog(t).LoadThingType(writeType(t, `{"commands":{`+list(maxFolderFiles/2, `"c%d":{}`)+`}}`)); own == nil || err != nil {
		t.Errorf("just small enough: %.300v", err)
	}
}
