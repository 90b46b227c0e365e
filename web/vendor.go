//go:build ignore

// Vendor brings the NHS.UK design system into static/, ready to embed: its stylesheet, its script, the few plain icons
// the stylesheet names, and its licence. What is not ours to pass on is taken out: the Frutiger font faces, every address at
// assets.nhs.uk, and the rules for the NHS logo. The font is Arial.
//
//	go run ./web/vendor.go [-tgz nhsuk-frontend-10.6.1.tgz]
//
// Without -tgz it runs `npm pack`.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

const (
	version = "10.6.1"
	// The package's own integrity, as the registry publishes it: a changed package is refused.
	integrity = "PZorqQZjZx/A26yJoskCL9z0ib6AtkAyF0o4K/RHr8zRrJyXrUOCnMbjy0VNXsGO4tfTNMwqlkwATKs4a0xayw=="
)

// out is the folder beside this file, from wherever this is run.
func out() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "static", "nhsuk")
}

// The package names its licence (MIT) and does not carry the text, which stands in its repository as LICENSE.
const licence = `nhsuk-frontend ` + version + `, https://github.com/nhsuk/nhsuk-frontend
Changed here: font faces, addresses at assets.nhs.uk and rules for the NHS logo removed; the font is Arial.

MIT License

Copyright (c) 2019 NHS.UK

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
`

func main() {
	log.SetFlags(0)
	log.SetPrefix("vendor: ")
	tgz := flag.String("tgz", "", "the package, already fetched")
	flag.Parse()
	if err := run(*tgz); err != nil {
		log.Fatal(err)
	}
}

func run(tgz string) error {
	if tgz == "" {
		dir, err := os.MkdirTemp("", "nhsuk")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		npm := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, "nhsuk-frontend@"+version)
		npm.Stderr = os.Stderr
		if err := npm.Run(); err != nil {
			return fmt.Errorf("npm pack nhsuk-frontend@%s: %w (npm comes with Node.js; or fetch the package and name it with -tgz)", version, err)
		}
		tgz = filepath.Join(dir, "nhsuk-frontend-"+version+".tgz")
	}
	pack, err := os.ReadFile(tgz)
	if err != nil {
		return err
	}
	if sum := sha512.Sum512(pack); base64.StdEncoding.EncodeToString(sum[:]) != integrity {
		return fmt.Errorf("%s is not nhsuk-frontend %s as published: its SHA-512 differs", tgz, version)
	}
	files, err := unpack(pack)
	if err != nil {
		return err
	}
	css, icons, err := stylesheet(files["dist/nhsuk/nhsuk-frontend.min.css"])
	if err != nil {
		return err
	}
	js := cut(files["dist/nhsuk/nhsuk-frontend.min.js"], regexp.MustCompile(`\s*//# sourceMappingURL=\S+`))
	if len(js) == 0 {
		return fmt.Errorf("the package has no dist/nhsuk/nhsuk-frontend.min.js")
	}
	dir := out()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := map[string][]byte{"nhsuk-frontend.min.css": css, "nhsuk-frontend.min.js": append(js, '\n'), "LICENCE": []byte(licence)}
	for _, name := range icons {
		write[name] = files["dist/nhsuk/assets/images/"+name]
	}
	for name, data := range write {
		if len(data) == 0 {
			return fmt.Errorf("the package has no %s", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s %d bytes\n", name, len(data))
	}
	return nil
}

func unpack(tgz []byte) (map[string][]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(h.Name, "package/")
		if strings.HasSuffix(name, ".min.css") || strings.HasSuffix(name, ".min.js") || strings.HasSuffix(name, ".svg") {
			if files[name], err = io.ReadAll(t); err != nil {
				return nil, err
			}
		}
	}
}

var (
	fontFace  = regexp.MustCompile(`@font-face\{[^}]*\}`)
	frutiger  = regexp.MustCompile(`"?Frutiger W01"?,\s*`)
	logoRule  = regexp.MustCompile(`[^{}]*__(organisation-)?logo[^{}]*\{[^{}]*\}`)
	sourceMap = regexp.MustCompile(`\s*/\*# sourceMappingURL=[^*]*\*/`)
	iconURL   = regexp.MustCompile(`url\(/assets/images/([a-z0-9-]+\.svg)\)`)
	anyURL    = regexp.MustCompile(`url\(([^)]*)\)`)
)

// stylesheet takes out what is not ours, points icons into our own folder, and names those icons.
func stylesheet(css []byte) ([]byte, []string, error) {
	css = cut(css, fontFace)
	css = cut(css, frutiger)
	css = cut(css, logoRule)
	css = cut(css, sourceMap)
	var icons []string
	seen := map[string]bool{}
	css = iconURL.ReplaceAllFunc(css, func(m []byte) []byte {
		name := string(iconURL.FindSubmatch(m)[1])
		if !seen[name] {
			seen[name] = true
			icons = append(icons, name)
		}
		return []byte("url(" + name + ")")
	})
	for _, bad := range []string{"frutiger", "font-face", "assets.nhs.uk", "http:", "https:"} {
		if bytes.Contains(bytes.ToLower(css), []byte(bad)) {
			return nil, nil, fmt.Errorf("the stylesheet still says %q after cleaning: its form has changed, mend the expressions above", bad)
		}
	}
	for _, m := range anyURL.FindAllSubmatch(css, -1) {
		if !seen[string(m[1])] {
			return nil, nil, fmt.Errorf("the stylesheet names %q, which is not vendored", m[1])
		}
	}
	return append(css, '\n'), icons, nil
}

func cut(data []byte, what *regexp.Regexp) []byte { return what.ReplaceAll(data, nil) }
