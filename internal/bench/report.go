package bench

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report prints a result for people. broker says against which broker it was had.
func Report(w io.Writer, r Result, broker string) error {
	l := r.Load
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	load := fmt.Sprintf("%s, %d bytes", l.Channel, l.Size)
	if l.Kind == Req {
		load = string(l.Channel)
	}
	if l.Rate > 0 {
		load += fmt.Sprintf(", %s/s asked for", number(l.Rate))
	} else {
		load += fmt.Sprintf(", %s under way at a time", number(float64(l.Window)))
	}
	line(string(l.Kind), "%s, %d %s, broker: %s", load, len(l.Things), plural(len(l.Things), "Thing"), broker)
	line("rate", "%s/s: %s messages in %.1f s", number(r.Rate()), number(float64(r.Messages)), r.Elapsed.Seconds())
	if r.Latency.TotalCount() > 0 {
		line("latency", "p50 %s, p90 %s, p99 %s, p99.9 %s, longest %s", r.latency(50), r.latency(90), r.latency(99), r.latency(99.9), r.latency(100))
	} else {
		line("latency", "not seen: that takes the cloud's login, --cloud-username")
	}
	if r.Subject.CPU > 0 {
		line("bridge", "%s of CPU a message, %.2f cores, %d MiB", micros(r.Each(r.Subject)), cores(r.Subject, r.Elapsed), r.Subject.Memory>>20)
	}
	line("load", "%s of CPU a message, %.2f cores: the senders and receivers of this measurement, and a built-in broker", micros(r.Each(r.Own)), cores(r.Own, r.Elapsed))
	for _, bad := range r.bad() {
		line("bad", "%s", bad)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Sound is an error that tells what went wrong with messages, nil when every one arrived once and in
// order.
func (r Result) Sound() error {
	if bad := r.bad(); len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

func (r Result) bad() (out []string) {
	for _, c := range []struct {
		n    int64
		what string
	}{{r.Lost, "lost"}, {r.Failed, "refused"}, {r.Repeated, "repeated"}, {r.Disorder, "out of order"}} {
		if c.n > 0 {
			out = append(out, fmt.Sprintf("messages %s: %s", c.what, number(float64(c.n))))
		}
	}
	return out
}

func (r Result) latency(p float64) string { return short(r.Percentile(p)) }

// short prints a duration to three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func micros(d time.Duration) string { return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1e3) }

func cores(u Usage, in time.Duration) float64 { return u.CPU.Seconds() / in.Seconds() }

// number groups digits by three.
func number(f float64) string {
	s := strconv.FormatInt(int64(f+0.5), 10)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// Columns of the CSV file. Latencies are in microseconds, empty when they were not seen.
var Columns = []string{
	"at", "kind", "channel", "broker", "things", "size_bytes", "asked_per_second", "window", "seconds", "messages", "per_second",
	"p50_us", "p90_us", "p99_us", "p999_us", "max_us", "bridge_cpu_us_per_message", "bridge_cores", "bridge_bytes", "load_cores",
	"lost", "refused", "repeated", "out_of_order",
}

func (r Result) record(at time.Time, broker string) []string {
	l := r.Load
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	real := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
	out := []string{
		at.UTC().Format(time.RFC3339), string(l.Kind), string(l.Channel), broker, whole(int64(len(l.Things))), whole(int64(l.Size)), real(l.Rate),
		whole(int64(l.Window)), real(r.Elapsed.Seconds()), whole(r.Messages), real(r.Rate()),
	}
	for _, p := range []float64{50, 90, 99, 99.9, 100} {
		if r.Latency.TotalCount() == 0 {
			out = append(out, "")
			continue
		}
		out = append(out, whole(r.Percentile(p).Microseconds()))
	}
	return append(out, real(float64(r.Each(r.Subject).Nanoseconds())/1e3), real(cores(r.Subject, r.Elapsed)), whole(r.Subject.Memory),
		real(cores(r.Own, r.Elapsed)), whole(r.Lost), whole(r.Failed), whole(r.Repeated), whole(r.Disorder))
}

// CSV is a file that a result is added to.
type CSV struct {
	file *os.File
	old  bool // it has its header
}

// OpenCSV opens a file of results, or makes it. One with other columns is an error.
func OpenCSV(path string) (*CSV, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	header, err := csv.NewReader(f).Read()
	switch {
	case errors.Is(err, io.EOF):
		return &CSV{file: f}, nil
	case err == nil && slices.Equal(header, Columns):
		return &CSV{file: f, old: true}, nil
	}
	_ = f.Close()
	return nil, fmt.Errorf("%s: it is there and is no table of this command; name another file", path)
}

// Add writes one row.
func (c *CSV) Add(at time.Time, r Result, broker string) error {
	w := csv.NewWriter(c.file)
	if !c.old {
		_ = w.Write(Columns) // what fails shows at Flush
		c.old = true
	}
	_ = w.Write(r.record(at, broker))
	w.Flush()
	return w.Error()
}

// Close closes the file.
func (c *CSV) Close() error { return c.file.Close() }
