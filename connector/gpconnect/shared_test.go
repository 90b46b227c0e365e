package gpconnect

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// sharedData is the folder of public samples beside the repository; a test that wants it skips where there is none.
func sharedData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; wd != filepath.Dir(wd); wd = filepath.Dir(wd) {
			if _, err := os.Stat(filepath.Join(wd, "shared", "data")); err == nil {
				dir = filepath.Join(wd, "shared", "data")
				break
			}
		}
	}
	dir = filepath.Join(dir, "03-gpconnect")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the public GP Connect samples are not here (a folder shared/data beside the repository, or TOMBOLO_DATA): skipped")
	}
	return dir
}

var templating = regexp.MustCompile(`(?m)^\s*\{\{[#^/].*\}\}\s*$`)

// samples are the public structured records, with the page and template syntax around some of them taken off.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	root := sharedData(t)
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".json" && filepath.Ext(p) != ".mustache" {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
		b = bytes.ReplaceAll(b, []byte("{% highlight json %}"), nil)
		b = bytes.ReplaceAll(b, []byte("{% endhighlight %}"), nil)
		b = templating.ReplaceAll(b, nil)
		rel, _ := filepath.Rel(root, p)
		out[rel] = bytes.TrimSpace(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
