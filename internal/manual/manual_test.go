package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each page has the sections that are for it, in the usual order.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	root := &cobra.Command{Use: "gw", Short: "works"}
	run := &cobra.Command{Use: "run", Short: "runs", Example: "  gw run", Run: func(*cobra.Command, []string) {}}
	run.Flags().String("config", "", "FILE")
	hidden := &cobra.Command{Use: "man", Hidden: true, Run: run.Run}
	root.AddCommand(run, hidden)
	err := Write(root, dir,
		Section{"FILES", [][2]string{{"./gw.yaml", "the configuration"}}, func(c *cobra.Command) bool { return c.Flags().Lookup("config") != nil }},
		Section{"EXIT STATUS", [][2]string{{"0", "done"}, {".x", `a\b`}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"gw.1":     {".SH NAME", ".SH EXIT STATUS", "\\fB0\\fP", "\\fB\\&.x\\fP", `a\eb`, ".SH SEE ALSO", "gw-run(1)"},
		"gw-run.1": {".SH OPTIONS", ".SH EXAMPLES", ".SH FILES", "\\fB\\&./gw.yaml\\fP", ".SH EXIT STATUS", ".SH SEE ALSO"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, w := range want {
			i := strings.Index(string(text[at:]), w)
			if i < 0 {
				t.Fatalf("%s: no %s behind %.20q in\n%s", name, w, text[at:], text)
			}
			at += i
		}
		if name == "gw.1" && strings.Contains(string(text), "SH FILES") {
			t.Error("a section is where it is not for")
		}
	}
}
