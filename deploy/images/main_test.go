package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Two runs make the same files, and one of another time does not.
func TestSameBytes(t *testing.T) {
	programs := t.TempDir()
	for _, name := range []string{"fleetbridge", "fleetsim"} {
		if err := os.WriteFile(filepath.Join(programs, name), []byte("the program "+name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files := func(second int64) map[string]string {
		out := t.TempDir()
		if err := run("../../Dockerfile", out, "1.2.3", time.Unix(second, 0).UTC(), []string{"amd64=" + programs, "arm/v7=" + programs}); err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		if err := filepath.WalkDir(out, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			found[path[len(out):]] = string(data)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	first := files(1)
	if len(first) < 14 || !maps.Equal(first, files(1)) {
		t.Errorf("%d files, and others the next time", len(first))
	}
	if maps.Equal(first, files(2)) {
		t.Error("the time is nowhere")
	}
}

func TestDockerfile(t *testing.T) {
	stages, err := read("FROM golang AS build\nRUN x\nFROM scratch AS base\nUSER 1:2\nFROM base AS a\nCOPY x y\nEXPOSE 1 2\nHEALTHCHECK --retries=3 --timeout=6s \\\n  CMD [\"a\", \"b\"]\nENTRYPOINT [\"a\"]\nFROM base AS b\nCMD [\"c\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	a, b := stages["a"], stages["b"]
	if a.User != "1:2" || len(a.ExposedPorts) != 2 || a.Healthcheck.Retries != 3 || a.Healthcheck.Timeout != 6*time.Second || !slices.Equal(a.Healthcheck.Test, []string{"CMD", "a", "b"}) || !slices.Equal(a.Entrypoint, []string{"a"}) {
		t.Errorf("%+v", a)
	}
	if b.User != "1:2" || len(b.ExposedPorts) > 0 || !slices.Equal(b.Cmd, []string{"c"}) {
		t.Errorf("%+v", b)
	}
	if _, err := read("FROM scratch AS a\nSTOPSIGNAL 9\n"); err == nil {
		t.Error("an instruction that is not known was passed over")
	}
}
