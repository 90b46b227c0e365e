package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// An asset is one embedded file, ready to send.
type asset struct {
	body, zipped []byte
	contentType  string
}

// assets serves the embedded files under a path that carries the hash of them all, so that browsers may keep them for
// ever and a new version is never mixed with an old one.
type assets struct {
	prefix string // "/static/1a2b3c4d/"
	files  map[string]asset
}

func loadAssets() (assets, error) {
	a := assets{files: map[string]asset{}}
	all := sha256.New()
	err := fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		all.Write([]byte(name))
		all.Write(body)
		f := asset{body: body, contentType: mime.TypeByExtension(path.Ext(name))}
		switch path.Ext(name) { // not left to the machine's own table of types
		case ".js":
			f.contentType = "text/javascript; charset=utf-8"
		case ".css":
			f.contentType = "text/css; charset=utf-8"
		case ".svg":
			f.contentType = "image/svg+xml"
		case "":
			f.contentType = "text/plain; charset=utf-8"
		}
		if len(body) > 1024 {
			var b bytes.Buffer
			z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
			_, _ = z.Write(body)
			if err := z.Close(); err != nil {
				return err
			}
			f.zipped = b.Bytes()
		}
		a.files[strings.TrimPrefix(name, "static/")] = f
		return nil
	})
	a.prefix = "/static/" + hex.EncodeToString(all.Sum(nil))[:12] + "/"
	return a, err
}

func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, current := strings.CutPrefix(r.URL.Path, a.prefix)
	f, ok := a.files[name]
	if !current || !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.body
	if f.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	_, _ = w.Write(body)
}
