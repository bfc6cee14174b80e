package mapping

import "testing"

// Addresses as messages on their way have them.
var benchAddresses = []struct {
	name    string
	address Address
	space   Space
}{
	{"delta", Address{"pump-07", ShadowDelta, ""}, SpaceDown},
	{"event", Address{"pump-07", Event, "dryRun"}, SpaceUp},
	{"command", Address{"pump-07", CommandRequest, "6f0c9c1e-55c4-4d0c-8f6a-0d6f3a1f3d77"}, SpaceDown},
	{"escaped", Address{"com.acme.pump 7", JobUpdateAccepted, "a3c1"}, SpaceDown},
}

func BenchmarkTopic(b *testing.B) {
	for _, c := range benchAddresses {
		topic := c.address.Topic()
		b.Run("print/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.address.Topic()
			}
		})
		b.Run("parse/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseTopic(c.space.Direction(), topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSubject(b *testing.B) {
	s := subjects(b)
	for _, c := range benchAddresses {
		subject := s.Print(c.space, c.address)
		b.Run("print/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Print(c.space, c.address)
			}
		})
		b.Run("parse/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Parse(subject); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	whole := []byte(`{"temperature":21.5,"humidity":40,"fan":{"on":true,"speed":3},"firmware":"1.4.2","wifi":{"ssid":"plant","rssi":-61}}`)
	patch := []byte(`{"temperature":21.6,"fan":{"speed":null}}`)
	b.ReportAllocs()
	for b.Loop() {
		_ = Merge(whole, patch)
	}
}
