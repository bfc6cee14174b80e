package gateway

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "../.."

// A stranger reads it in ten minutes.
func TestREADMEIsShort(t *testing.T) {
	const most = 1500
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(strings.Fields(string(text))); n > most {
		t.Errorf("README.md has %d words, at most %d are allowed: move some of it to docs/", n, most)
	}
}

// Every link of a document to a file of this repository, and to a heading in it, leads somewhere. Links to other places
// can't be looked at here.
func TestLinks(t *testing.T) {
	found := 0
	for _, path := range documents(t) {
		for _, target := range links(readDocument(t, path)) {
			if strings.Contains(target, "://") {
				continue
			}
			found++
			if problem := followLink(t, path, target); problem != "" {
				t.Errorf("%s: link %q: %s", path, target, problem)
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d links, which is too few: does the pattern still match?", found)
	}
}

// documents are the Markdown files of the repository; what tools put into it is not.
func documents(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != repository && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "target" || name == "bin" || name == "dist"):
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(name) == ".md":
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
	inCode = regexp.MustCompile("`[^`\n]*`")
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notID  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fenced.ReplaceAllString(string(text), "")
}

func links(text string) (out []string) {
	for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return out
}

// followLink says what is wrong with a link, or nothing.
func followLink(t *testing.T, from, target string) string {
	t.Helper()
	file, heading, _ := strings.Cut(target, "#")
	to := from
	if file != "" {
		to = filepath.Join(filepath.Dir(from), file)
		if _, err := os.Stat(to); err != nil {
			return "no such file"
		}
	}
	if heading == "" {
		return ""
	}
	for line := range strings.Lines(readDocument(t, to)) {
		if title := strings.TrimLeft(line, "#"); title != line && heading == headingID(title) {
			return ""
		}
	}
	return "no such heading"
}

// headingID is the anchor that GitHub makes of a heading.
func headingID(title string) string {
	title = notID.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
	return strings.ReplaceAll(title, " ", "-")
}
