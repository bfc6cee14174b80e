//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// language is one example: where it is, what it needs, how it is made, and how it is run.
type language struct {
	name  string
	needs []tool
	setup [][]string // commands, in its directory, as its README has them
	run   []string   // the program, in its directory
	keep  []string   // what setup leaves behind for the next time
}

// tool is a program that must be there, and how one gets it.
type tool struct{ name, mend string }

var languages = []language{
	{
		name:  "python",
		needs: []tool{{"python3", "install Python 3.11 or later with venv"}},
		setup: [][]string{
			{"python3", "-m", "venv", ".venv"},
			{".venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"},
		},
		run:  []string{".venv/bin/python", "thermostat.py"},
		keep: []string{".venv", "__pycache__"},
	},
	{
		name:  "typescript",
		needs: []tool{{"node", "install Node.js 20 or later"}, {"npm", "install npm"}},
		setup: [][]string{{"npm", "ci", "--no-audit", "--no-fund", "--silent"}, {"npm", "run", "--silent", "build"}},
		run:   []string{"node", "dist/thermostat.js"},
		keep:  []string{"node_modules", "dist"},
	},
	{
		name:  "rust",
		needs: []tool{{"cargo", "install Rust 1.89 or later, https://rustup.rs"}, {"cc", "apt-get install gcc libc6-dev"}},
		setup: [][]string{{"cargo", "build", "--locked", "--quiet"}},
		run:   []string{"target/debug/thermostat"},
		keep:  []string{"target"},
	},
	{
		name:  "go",
		needs: []tool{{"go", "install Go 1.26 or later"}},
		setup: [][]string{{"go", "vet", "."}, {"go", "build", "-o", "thermostat", "."}},
		run:   []string{"./thermostat"},
		keep:  []string{"thermostat"},
	},
	{
		name: "c",
		needs: []tool{
			{"cc", "apt-get install gcc libc6-dev"}, {"make", "apt-get install make"},
			{"pkg-config", "apt-get install pkg-config libnats-dev libcjson-dev"},
		},
		setup: [][]string{{"make", "--silent"}},
		run:   []string{"./thermostat"},
		keep:  []string{"thermostat"},
	},
	{
		name: "shell",
		needs: []tool{
			{"bash", "apt-get install bash"}, {"jq", "apt-get install jq"},
			{"nats", "go install github.com/nats-io/natscli/nats@latest, or name it with -nats"},
		},
		run: []string{"./thermostat.sh"},
	},
}

func (l language) source(s settings) string { return filepath.Join(s.examples, "thermostat-"+l.name) }
func (l language) dir(s settings) string    { return filepath.Join(s.cache, l.name) }

// setUp makes the program run-ready in the cache directory. The error holds what its tools said.
func (l language) setUp(ctx context.Context, s settings) error {
	var missing []error
	for _, t := range l.needs {
		if t.name == "nats" && s.nats != "" {
			t.name = s.nats
		}
		if _, err := exec.LookPath(t.name); err != nil {
			missing = append(missing, fmt.Errorf("%s is missing: %s", t.name, t.mend))
		}
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	if err := mirror(l.source(s), l.dir(s), l.keep); err != nil {
		return err
	}
	stamp := l.dir(s) + ".made-of"
	inputs, err := l.inputs(s)
	if err != nil {
		return err
	}
	if made, err := os.ReadFile(stamp); err == nil && string(made) == inputs {
		return nil
	}
	for _, words := range l.setup {
		if strings.Contains(words[0], "/") {
			words = slices.Clone(words)
			words[0] = filepath.Join(l.dir(s), words[0])
		}
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Dir = l.dir(s)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out.String())
		}
	}
	return os.WriteFile(stamp, []byte(inputs), 0o644)
}

// inputs tells in a word what the program is made of and how, with the versions of the tools.
func (l language) inputs(s settings) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, l.setup)
	for _, t := range l.needs {
		version, _ := exec.Command(t.name, "--version").Output() // go says it otherwise, but needs no new build either
		fmt.Fprintf(sum, "%s %s\n", t.name, version)
	}
	err := filepath.WalkDir(l.source(s), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains(l.keep, d.Name()) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || slices.Contains(l.keep, d.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	})
	return fmt.Sprintf("%x\n", sum.Sum(nil)), err
}

// mirror makes to a copy of from. A file that is the same is left alone, so that build tools see what has
// changed; what is not in from is removed, but for what keep names and what from itself would keep.
func mirror(from, to string, keep []string) error {
	have := map[string]bool{}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains(keep, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		have[name] = true
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		return copyFile(path, filepath.Join(to, name))
	})
	if err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(to, path)
		if err != nil || have[name] {
			return err
		}
		if !slices.Contains(keep, name) {
			err = os.RemoveAll(path)
		}
		if d.IsDir() && err == nil {
			return fs.SkipDir
		}
		return err
	})
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.WriteFile(to, data, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chmod(to, info.Mode().Perm())
}
