package gpconnect_test

import (
	"os"
	"path/filepath"
	"testing"
)

func read(t testing.TB, fixture string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", fixture+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
