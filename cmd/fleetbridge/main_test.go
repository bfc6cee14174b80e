package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// invoke runs one command line and prints it as a transcript does: what went to the error stream is
// marked with "! ", an exit code other than 0 stands in brackets.
func invoke(t *testing.T, args []string, in string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, streams{strings.NewReader(in), &out, &errs})
	s := out.String()
	for line := range strings.Lines(errs.String()) {
		s += "! " + line
	}
	if s != "" && !strings.HasSuffix(s, "\n") {
		t.Errorf("%q: the output does not end its line", args)
	}
	if code != done {
		s += fmt.Sprintf("[%d]\n", code)
	}
	return s
}

// words splits a command line at spaces outside single quotes.
var word = regexp.MustCompile(`'[^']*'|[^ ]+`)

// The transcripts in testdata are command lines, each followed by what it must print. They run in
// testdata; what follows " < " is the standard input.
func TestTranscripts(t *testing.T) {
	t.Chdir("testdata")
	if err := os.Chmod("external.yaml", 0o644); err != nil { // check warns of it
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) { transcript(t, file) })
	}
}

func transcript(t *testing.T, file string) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		command, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ fleetbridge")
		if !ok {
			continue
		}
		command, in, _ := strings.Cut(command, " < ")
		var args []string
		for _, w := range word.FindAllString(command, -1) {
			args = append(args, strings.Trim(w, "'"))
		}
		if got.Len() > 0 {
			got.WriteByte('\n')
		}
		got.WriteString(line + invoke(t, args, in))
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
	if strings.Contains(got.String(), "hunter2") {
		t.Error("a secret is printed")
	}
}

func TestVersion(t *testing.T) {
	version, commit = "v1.2.3", "abc123"
	defer func() { version, commit = "", "" }()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if got := invoke(t, args, ""); !regexp.MustCompile(`^fleetbridge v1\.2\.3, commit abc123, go1\.\d+\S* \w+/\w+\n$`).MatchString(got) {
			t.Errorf("%q: got %q", args, got)
		}
	}
}
