package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated document")

// The reference of the API is made from the table of endpoints: run this with -update (make docs).
func TestDocument(t *testing.T) {
	const path = "../../docs/console-api.md"
	want := document(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is stale (%v): run make docs", path, err)
	}
}

func document(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# The console's API\n\n<!-- Made from the code by make docs; do not edit. -->\n\n" +
		"The page at `console.listen` is made from this API, and programs may use it, too. All paths are below `" + base + "`.\n\n" +
		"- Whoever asks sends `Authorization: Bearer TOKEN`. `POST session` gives a token for the code of a link, which `fleetbridge console` prints, or for a password of `console.users`. It lasts twelve hours, or until the bridge ends.\n" +
		"- Answers are JSON, times RFC 3339. What is empty is left out. Fields are added, not renamed.\n" +
		"- `{t}` is a Thing's token, as in subjects. Unknown parameters are refused.\n" +
		"- A payload is `payload`, or `payloadBase64` if it is no UTF-8. `bytes` is its length; with `cut` only the first 4 KiB are there.\n" +
		"- A list has `items`, and `next` if there is more: give that as `before` or `after`. `looked` is how many stored messages were looked at; a page may be empty and have a `next`.\n" +
		"- Errors are `{\"code\":400,\"message\":\"…\",\"details\":[{\"pointer\":\"/x\",\"message\":\"…\",\"span\":[10,19]}]}`. The code is that of HTTP: 401 log in, 403 not this role, 421 the name in `Host`\n" +
		"  is not known, 503 the store can't be read now. `span` are the bytes of the payload from which to which a detail is about.\n" +
		"- No request makes a consumer, and none reads more than 1,000 stored messages, or 2,000 of each stream for a trace.\n")
	for _, e := range endpoints {
		fmt.Fprintf(&b, "\n## %s %s\n\n%s\n\n", e.method, cmp.Or(e.path, "(the base itself)"), e.about)
		who := "Everybody."
		if e.role != nobody {
			who = "Role: " + e.role.String()
			if e.action != "" {
				who += ", with `" + e.action + "` in `console.actions`"
			}
			who += "."
		}
		if len(e.query) > 0 {
			who += " Parameters: `" + strings.Join(e.query, "`, `") + "`."
		}
		b.WriteString(who + "\n")
		for _, text := range []string{e.body, e.sample} {
			if text == "" {
				continue
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, []byte(text), "", "  "); err != nil {
				if e.stream == nil {
					t.Errorf("%s %s: the sample is no JSON: %v", e.method, e.path, err)
				}
				pretty.Reset()
				pretty.WriteString(text)
			}
			kind := "json"
			if e.stream != nil {
				kind = ""
			}
			fmt.Fprintf(&b, "\n```%s\n%s\n```\n", kind, strings.TrimSpace(pretty.String()))
		}
		if e.about == "" || e.sample == "" {
			t.Errorf("%s %s: nothing is said of it", e.method, e.path)
		}
	}
	return b.String()
}
