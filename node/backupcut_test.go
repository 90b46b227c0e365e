package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
	"tombolo/store"
)

// A backup that is interrupted leaves nothing behind, and can be made again under the same name; a restore that is cut short leaves no store, so that
// it can be run again.
func TestWhatCutsABackupOrARestoreShortLeavesItToBeRunAgain(t *testing.T) {
	for engine, at := range places(t) {
		t.Run(engine, func(t *testing.T) {
			ctx := t.Context()
			c := at("cut")
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			key := filepath.Join(c.Data, "keys", "a.key")
			if err := errors.Join(os.MkdirAll(filepath.Dir(key), 0o700), os.WriteFile(key, []byte("a key"), 0o600)); err != nil {
				t.Fatal(err)
			}
			db, err := OpenStore(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Update(ctx, func(tx store.Tx) error {
				_, err := tx.Put(ctx, store.Home{Source: "s", Patient: "p"}, fhir.New("Patient", "p", nil))
				return err
			}); err != nil {
				t.Fatal(err)
			}

			dir := filepath.Join(t.TempDir(), "monday")
			cut, interrupt := context.WithCancel(ctx)
			_, err = backup(cut, c, db, dir, func(p store.Progress) {
				if strings.Contains(p.Doing, "summing") {
					interrupt()
				}
			})
			if err == nil || !strings.Contains(err.Error(), "no backup was made") {
				t.Errorf("an interrupted backup: %v", err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an interrupted backup left %s behind: %v", dir, err)
			}
			if k, err := backup(ctx, c, db, dir, func(store.Progress) {}); err != nil || !k.OK {
				t.Fatalf("the same backup again: %+v, %v", k, err)
			}
			if engine != "embedded" {
				return
			}

			to := at("restored")
			obstacle := filepath.Join(to.Data, "keys") // a file where a folder is to be: what lies beside the store cannot be copied
			if err := errors.Join(os.MkdirAll(to.Data, 0o700), os.WriteFile(obstacle, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, err := Maintain(ctx, to, Upkeep{Do: "restore", Dir: dir}, func(store.Progress) {}); err == nil {
				t.Fatal("restored without the keys")
			}
			if _, err := os.Lstat(filepath.Join(to.Data, "store")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a restore that was cut short left a store without its keys: %v", err)
			}
			if err := os.Remove(obstacle); err != nil {
				t.Fatal(err)
			}
			if k, err := Maintain(ctx, to, Upkeep{Do: "restore", Dir: dir}, func(store.Progress) {}); err != nil || !k.OK {
				t.Errorf("the same restore again: %+v, %v", k, err)
			}
			if got, err := os.ReadFile(filepath.Join(to.Data, "keys", "a.key")); err != nil || string(got) != "a key" {
				t.Errorf("the key came back as %q, %v", got, err)
			}
		})
	}
}
