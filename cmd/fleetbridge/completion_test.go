package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every shell gets a completion script, and channels are completed.
func TestCompletion(t *testing.T) {
	for shell, want := range map[string]string{
		"bash": "complete -o default -F __start_fleetbridge fleetbridge", "zsh": "#compdef fleetbridge", "fish": "complete -c fleetbridge",
		"powershell": "Register-ArgumentCompleter -CommandName 'fleetbridge'",
	} {
		if got := invoke(t, []string{"completion", shell}, ""); !strings.Contains(got, want) {
			t.Errorf("%s: got %q", shell, got)
		}
	}
	if got := invoke(t, []string{"__complete", "validate", "shadow."}, ""); !strings.Contains(got, "shadow.report\t") {
		t.Errorf("got %q", got)
	}
}

// Bash reads the script, and TAB in it comes to what the command says. The functions stand for
// bash-completion and for the installed command.
func TestBashCompletes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no bash")
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"__complete", "validate", "shadow.d"}, streams{strings.NewReader(""), &out, &bytes.Buffer{}}); code != done {
		t.Fatalf("exit code %d", code)
	}
	answer := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(answer, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), bash, "--norc", "--noprofile", "-c", `set -e; source /dev/stdin
fleetbridge() { [ "$*" = "__complete validate shadow.d" ] && cat "$ANSWER"; }
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
compopt() { :; }
set +e; COMP_WORDS=(fleetbridge validate shadow.d) COMP_CWORD=2 COMP_TYPE=9
__start_fleetbridge; printf '%s\n' "${COMPREPLY[@]%% *}"`)
	c.Env = append(os.Environ(), "ANSWER="+answer)
	c.Stdin = strings.NewReader(invoke(t, []string{"completion", "bash"}, ""))
	printed, err := c.CombinedOutput()
	if err != nil || string(printed) != "shadow.desired\nshadow.delta\n" {
		t.Errorf("%v, %q", err, printed)
	}
}
