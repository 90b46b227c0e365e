package pack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tombolo/fhir/pack"
)

// packed is a package of some files, and a folder.
func packed(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "package/", Typeflag: tar.TypeDir, Mode: 0o700}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(name)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEachFileOfAPackageIsGivenWithItsFolderAndKind(t *testing.T) {
	whole := packed(t, "package/StructureDefinition-Patient.json", "package/example/Patient-p1.json", "./package/package.json")
	path := filepath.Join(t.TempDir(), "some.tgz")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	var got [][4]string
	for f, err := range pack.Open(path) {
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f.Content)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, [4]string{f.Folder, f.Name, f.Kind(), string(content)})
	}
	want := [][4]string{
		{"package", "StructureDefinition-Patient.json", "StructureDefinition", "package/StructureDefinition-Patient.json"},
		{"package/example", "Patient-p1.json", "Patient", "package/example/Patient-p1.json"},
		{"package", "package.json", "package.json", "./package/package.json"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A package that is cut short, or is none, is told of: what was given before is not taken for all of it.
func TestAPackageThatIsCutShortIsAnError(t *testing.T) {
	whole := packed(t, "package/a.json", "package/b.json")
	for n := range whole {
		var last error
		for _, err := range pack.Files(bytes.NewReader(whole[:n])) {
			last = err
		}
		// what follows the tar's own end, the gzip's sum and length, is not read: nothing of the content is there
		if last == nil && n < len(whole)-64 {
			t.Errorf("a package of %d bytes was taken to be whole at %d", len(whole), n)
		}
	}
	for _, err := range pack.Open(filepath.Join(t.TempDir(), "none.tgz")) {
		if err == nil {
			t.Error("a file that is not there was read")
		}
	}
}
