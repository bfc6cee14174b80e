package schemas

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// benchThing are a Thing's schemas as a device has them.
var benchThing = map[string]string{
	"reported.schema.json": `{"type":"object","required":["temperature"],"properties":{
		"temperature":{"type":"number","minimum":-40,"maximum":85.5},"humidity":{"type":"integer","minimum":0,"maximum":100},
		"targetTemperature":{"type":["number","null"],"multipleOf":0.5},"mode":{"enum":["auto","off","heat"]},
		"valve":{"$ref":"#/$defs/valve"},"firmware":{"type":"string","pattern":"^[0-9]+\\.[0-9]+"},"uptime":{"type":"integer"},
		"alarms":{"type":"array","items":{"type":"string","maxLength":20},"uniqueItems":true},
		"network":{"type":"object","properties":{"rssi":{"maximum":0},"ssid":{"minLength":1}}},
		"samples":{"items":{"type":"object","required":["at","value"],"additionalProperties":{"type":["number","string"]}}}},
		"$defs":{"valve":{"type":"object","properties":{"open":{"type":"boolean"},"position":{"minimum":0,"maximum":1}},"additionalProperties":false}}}`,
	"events/sampled.schema.json":  `{"properties":{"samples":{"items":{"required":["at","value"],"properties":{"at":{"type":"integer"},"value":{"type":"number"}}}}}}`,
	"commands/sample.schema.json": `{"properties":{"samples":{"items":{"oneOf":[{"required":["until"]},{"required":["at"]}]}}}}`,
}

// payloadOf makes a payload of a channel of about so many bytes.
func payloadOf(channel string, size int) []byte {
	head, tail := "", ""
	switch channel {
	case "shadow.report":
		head, tail = `{"state":{"reported":{"temperature":21.5,"mode":"auto","samples":[`, `]}},"clientToken":"br1-000017","version":3141}`
	case "event":
		head, tail = `{"eventType":"sampled","severity":"info","timestamp":1780000000123,"data":{"samples":[`, `]}}`
	case "command.request":
		head, tail = `{"commandId":"c-17","action":"sample","ttl":60,"params":{"samples":[`, `]}}`
	}
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len()+len(tail) < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"at":%d,"value":%d.%d,"unit":"°C"}`, 1780000000000+int64(i)*100, 20+i%7, i%10)
	}
	return []byte(b.String() + tail)
}

var sizes = []struct {
	name  string
	bytes int
}{{"100B", 100}, {"300B", 300}, {"4KB", 4 << 10}, {"64KB", 64 << 10}}

var benchChannels = []string{"shadow.report", "event", "command.request"}

// bench runs what checks a payload.
func bench(b *testing.B, payload []byte, check func([]byte) error) {
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := check(payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheck is Catalog.Check, guard included; library is how long the guard and the library take.
func BenchmarkCheck(b *testing.B) {
	c := catalog(b)
	for _, channel := range benchChannels {
		for _, size := range sizes {
			payload := payloadOf(channel, size.bytes)
			b.Run(channel+"/"+size.name, func(b *testing.B) {
				bench(b, payload, func(p []byte) error { return c.Check(context.Background(), channel, p) })
			})
			b.Run(channel+"/"+size.name+"/library", func(b *testing.B) {
				bench(b, payload, func(p []byte) error {
					if err := c.Guard(p); err != nil {
						return err
					}
					return c.channels[channel].checker.full.check(context.Background(), p, librarySteps)
				})
			})
		}
	}
}

// BenchmarkThing is ThingSchemas.Check, which comes after Catalog.Check.
func BenchmarkThing(b *testing.B) {
	thing := load(b, benchThing)
	checkers := map[string]*checker{"shadow.report": thing.reported, "event": thing.events["sampled"], "command.request": thing.commands["sample"]}
	for _, channel := range benchChannels {
		for _, size := range sizes {
			payload := payloadOf(channel, size.bytes)
			b.Run(channel+"/"+size.name, func(b *testing.B) {
				bench(b, payload, func(p []byte) error { return thing.Check(context.Background(), channel, p) })
			})
			path := map[string]string{"shadow.report": "state.reported", "event": "data", "command.request": "params"}[channel]
			b.Run(channel+"/"+size.name+"/library", func(b *testing.B) {
				bench(b, payload, func(p []byte) error {
					return checkers[channel].full.check(context.Background(), []byte(gjson.GetBytes(p, path).Raw), librarySteps)
				})
			})
		}
	}
}
