package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed web
var web embed.FS

// static serves the files of the page, each with a tag by which a browser knows it again.
type static map[string]file

type file struct {
	data       []byte
	packed     func() []byte // data compressed, when somebody first asks for it
	tag, media string
}

// media are the types of the files; a browser gets no other.
var media = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
}

func newStatic() static {
	s := static{}
	err := fs.WalkDir(web, "web", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := web.ReadFile(name)
		sum := sha256.Sum256(data)
		// The tag is weak, as the file is the same compressed and not.
		f := file{data, sync.OnceValue(func() []byte { return pack(data) }), `W/"` + hex.EncodeToString(sum[:12]) + `"`, media[path.Ext(name)]}
		if f.media == "" {
			f.media = "text/plain; charset=utf-8"
		}
		s[strings.TrimPrefix(name, "web")] = f
		return err
	})
	if err != nil {
		panic("console: its own files can't be read: " + err.Error())
	}
	s["/"] = s["/index.html"]
	return s
}

func (s static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, there := s[r.URL.Path]
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this page is only read", http.StatusMethodNotAllowed)
		return
	case !there:
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.tag)
	h.Set("Content-Type", f.media)
	h.Set("Vary", "Accept-Encoding")
	data := f.data
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		data = f.packed()
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// pack compresses a file.
func pack(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // into memory, which takes all
	_ = w.Close()
	return b.Bytes()
}

// leave answers a browser that asks for a service worker, whatever its path: the console has none. One that is there was
// left by somebody else who listened on this port, and would see all that the page does. It ends itself.
func leave(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", media[".js"])
	h.Set("Clear-Site-Data", `"storage"`)
	_, _ = w.Write([]byte(`self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (e) => e.waitUntil((async () => {
  await self.registration.unregister();
  for (const page of await self.clients.matchAll({ type: "window" })) page.navigate(page.url);
})()));
`))
}
