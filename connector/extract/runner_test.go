package extract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/connector"
	"tombolo/fhir"
)

// A book is a door that keeps deliveries, once only, and fails as it is told to.
type book struct {
	mu       sync.Mutex
	seen     map[string]bool
	order    []string // ids as accepted
	rejected []string
	fail     func(d connector.Delivery) error
}

func (b *book) Accept(_ context.Context, d connector.Delivery) (connector.Receipt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(d); err != nil {
			return connector.Receipt{}, err
		}
	}
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	key := fmt.Sprintf("%s %x", d.ID, sha256.Sum256(d.Raw))
	if b.seen[key] {
		return connector.Receipt{Duplicate: true}, nil
	}
	b.seen[key] = true
	if d.Rejected != nil {
		b.rejected = append(b.rejected, d.Rejected.Error())
		return connector.Receipt{}, nil
	}
	b.order = append(b.order, d.ID)
	return connector.Receipt{}, nil
}

func rows(n int) string {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range n {
		fmt.Fprintf(&b, "V%d,P%d,,Ann,01/02/1950,02/07/2026,ok\n", i, i)
	}
	return b.String()
}

func newRunner(t *testing.T, o Options) *Runner {
	t.Helper()
	if o.Mapping == nil {
		o.Mapping = mapping(t, small)
	}
	o.Source = "clinic"
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func put(t *testing.T, drop, name, data string, modified time.Time) {
	t.Helper()
	full := filepath.Join(drop, name)
	if err := errors.Join(os.WriteFile(full, []byte(data), 0o600), os.Chtimes(full, modified, modified)); err != nil {
		t.Fatal(err)
	}
}

func in(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

var night = time.Date(2026, 7, 3, 2, 0, 0, 0, time.UTC)

func TestAFileIsTakenOnlyOnceItHasStoppedGrowing(t *testing.T) {
	drop, door := t.TempDir(), new(book)
	r := newRunner(t, Options{Drop: drop})
	sweep := func() {
		t.Helper()
		if err := r.Sweep(t.Context(), door); err != nil {
			t.Fatal(err)
		}
	}
	put(t, drop, "visits.csv", rows(1), night)
	put(t, drop, "visits2.csv.part", rows(9), night)
	put(t, drop, ".visits3.csv", rows(9), night)
	sweep()
	put(t, drop, "visits.csv", rows(2), night.Add(time.Second))
	sweep()
	if len(door.order) != 0 {
		t.Fatalf("taken while it grew: %v", door.order)
	}
	sweep()
	if want := "visits.csv@20260703T020001.000000000Z#V0"; len(door.order) != 2 || !strings.HasPrefix(strings.Join(door.order, " "), "visits.csv@20260703T020001.000000000Z#V") {
		t.Errorf("taken: %v, want %s …", door.order, want)
	}
	if left := in(t, drop); strings.Join(left, " ") != ".visits3.csv done failed visits2.csv.part working" {
		t.Errorf("left in the folder: %v", left)
	}
	report, err := os.ReadFile(filepath.Join(drop, "done", "20260703T020001.000000000Z_visits.csv.report.txt"))
	if err != nil || !strings.HasPrefix(string(report), "visits.csv: 2 rows, 2 taken in, 0 already there, 0 not taken") {
		t.Errorf("report: %s %v", report, err)
	}
}

func TestWhatCannotBeReadIsPutAsideWithTheReason(t *testing.T) {
	drop, door := t.TempDir(), new(book)
	r := newRunner(t, Options{Drop: drop})
	put(t, drop, "visits.csv", "visit,patient,nhs,surname,start,reason\n", night)
	put(t, drop, "strange.csv", "a,b\n", night)
	put(t, drop, "letter.pdf", "%PDF", night)
	put(t, drop, "visits9.csv", rows(3)+"V9,P9,123,Ann,01/02/1950,02/07/2026,x\n", night)
	if err := os.Symlink("/etc/passwd", filepath.Join(drop, "visits_link.csv")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Sweep(t.Context(), door); err != nil {
			t.Fatal(err)
		}
	}
	failed := strings.Join(in(t, filepath.Join(drop, "failed")), " ")
	if !strings.Contains(failed, "_visits.csv.report.txt") || !strings.Contains(failed, "_strange.csv.report.txt") || strings.Contains(failed, "visits9") {
		t.Errorf("failed: %s", failed)
	}
	report, _ := os.ReadFile(filepath.Join(drop, "failed", "20260703T020000.000000000Z_visits.csv.report.txt"))
	if !strings.Contains(string(report), `The file was refused:`) || !strings.Contains(string(report), `the header lacks the column "dob"`) {
		t.Errorf("report: %s", report)
	}
	report, _ = os.ReadFile(filepath.Join(drop, "done", "20260703T020000.000000000Z_visits9.csv.report.txt"))
	if !strings.Contains(string(report), "4 rows, 3 taken in, 0 already there, 1 not taken") || !strings.Contains(string(report), "row 5, column nhs: an NHS number has 10 digits") {
		t.Errorf("report: %s", report)
	}
	if len(door.rejected) != 3 {
		t.Errorf("to quarantine: %v", door.rejected)
	}
	if left := strings.Join(in(t, drop), " "); left != "done failed letter.pdf visits_link.csv working" {
		t.Errorf("left: %s", left)
	}
}

func TestATransientFailureKeepsTheFileAndItsPlace(t *testing.T) {
	drop, n := t.TempDir(), 0
	door := &book{fail: func(connector.Delivery) error {
		if n++; n == 20 {
			return fhir.Errorf(fhir.NoStore, "the disk is full")
		}
		return nil
	}}
	r := newRunner(t, Options{Drop: drop})
	put(t, drop, "visits_old.csv", rows(50), night)
	put(t, drop, "visits_new.csv", rows(50), night.Add(time.Hour))
	if err := r.Sweep(t.Context(), door); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(t.Context(), door); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("got %v", err)
	}
	for _, id := range door.order {
		if strings.HasPrefix(id, "visits_new") {
			t.Fatal("the newer extract overtook the older")
		}
	}
	_ = r.Close() // and a crash on top: another program goes on where this one stopped
	again := newRunner(t, Options{Drop: drop})
	if err := again.Sweep(t.Context(), door); err != nil {
		t.Fatal(err)
	}
	if len(door.order) != 100 || len(in(t, filepath.Join(drop, "working"))) != 0 {
		t.Errorf("%d rows taken, in working: %v", len(door.order), in(t, filepath.Join(drop, "working")))
	}
	report, _ := os.ReadFile(filepath.Join(drop, "done", "20260703T020000.000000000Z_visits_old.csv.report.txt"))
	if !strings.HasPrefix(string(report), "visits_old.csv: 50 rows, ") || strings.Contains(string(report), " 0 already there") {
		t.Errorf("report: %s", report)
	}
}

func TestARowTheDoorRefusesDoesNotStopTheRest(t *testing.T) {
	drop := t.TempDir()
	door := &book{fail: func(d connector.Delivery) error {
		if strings.HasSuffix(d.ID, "#V3") {
			return fhir.Errorf(fhir.Invalid, "status is not in its value set").At("Encounter.status")
		}
		return nil
	}}
	r := newRunner(t, Options{Drop: drop})
	put(t, drop, "visits.csv", rows(10), night)
	for range 2 {
		if err := r.Sweep(t.Context(), door); err != nil {
			t.Fatal(err)
		}
	}
	report, _ := os.ReadFile(filepath.Join(drop, "done", "20260703T020000.000000000Z_visits.csv.report.txt"))
	if !strings.Contains(string(report), "10 rows, 9 taken in, 0 already there, 1 not taken") || !strings.Contains(string(report), "the row with key V3, Encounter.status: status is not") {
		t.Errorf("report: %s", report)
	}
}

func TestRowsOfOnePatientKeepTheirOrder(t *testing.T) {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range 400 {
		fmt.Fprintf(&b, "V%03d,P%d,,Ann,01/02/1950,02/07/2026,ok\n", i, i%5)
	}
	drop, door, last := t.TempDir(), new(book), map[string]string{}
	door.fail = func(d connector.Delivery) error {
		if d.ID < last[d.Patient] {
			t.Errorf("%s came after %s", d.ID, last[d.Patient])
		}
		last[d.Patient] = d.ID
		return nil
	}
	r := newRunner(t, Options{Drop: drop})
	put(t, drop, "visits.csv", b.String(), night)
	for range 2 {
		if err := r.Sweep(t.Context(), door); err != nil {
			t.Fatal(err)
		}
	}
	if len(door.order) != 400 {
		t.Errorf("%d rows", len(door.order))
	}
}

func TestRunLooksAgainAndAgainUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drop, door := t.TempDir(), new(book)
		r := newRunner(t, Options{Drop: drop, Poll: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx, door) }()
		<-r.Ready()
		put(t, drop, "visits.csv", rows(3), night)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(door.order) != 3 {
			t.Errorf("after five minutes: %v", door.order)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestUploads(t *testing.T) {
	drop, door := t.TempDir(), new(book)
	m := mapping(t, small+strings.SplitN(strings.Replace(documents, "manifest.csv", "letters/manifest.csv\n    patient: {id: patient}", 1), "files:\n", 2)[1])
	r := newRunner(t, Options{Drop: drop, Mapping: m, Token: "sesame", Poll: time.Hour, Listen: "127.0.0.1:0"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, door) }()
	<-r.Ready()
	send := func(method, path, token string, body io.Reader) (int, string) {
		q := httptest.NewRequest(method, path, body)
		q.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, q)
		if o, err := fhir.Parse(w.Body.Bytes()); w.Code < 300 || w.Code >= 400 {
			if err != nil || o.Type() != "OperationOutcome" {
				t.Errorf("%s %s: %d with %q, no OperationOutcome", method, path, w.Code, w.Body)
			}
		}
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		method, path, token, body string
		code                      int
		says                      string
	}{
		{"PUT", "/visits.csv", "guess", rows(1), 401, "login"},
		{"PUT", "/visits.csv", "sesame", rows(3), 201, "visits.csv: 3 rows, 3 taken in"},
		{"POST", "/visits-2.csv", "sesame", rows(1) + "V8,P1,,Ann,01/02/1950,bad,x\n", 201, "row 3, column start"},
		{"PUT", "/visits.csv", "sesame", "visit\n", 422, "the header lacks the columns"},
		{"PUT", "/letters/a.txt", "sesame", "Dear patient", 201, "the document is kept"},
		{"PUT", "/letters/manifest.csv", "sesame", "doc,patient,surname,file,label\nD1,P1,Taylor,a.txt,\n", 201, "1 rows, 1 taken in"},
		{"PUT", "/manifest.csv", "sesame", "doc,patient,surname,file,label\nD2,P1,Taylor,a.txt,\n", 201, "1 rows, 1 taken in"},
		{"PUT", "/other.csv", "sesame", "x", 400, "reads no CSV file of this name"},
		{"PUT", "/done/visits.csv", "sesame", "x", 400, "no such folder"},
		{"PUT", "/working/visits.csv", "sesame", "x", 400, "no such folder"},
		{"PUT", "/letters/..%2f..%2fvisits.csv", "sesame", "x", 400, "file name"},
		{"PUT", "/..%5cvisits.csv", "sesame", "x", 400, "file name"},
		{"PUT", "/%2e%2e%2fvisits.csv", "sesame", "x", 400, ""},
		{"PUT", "/.hidden", "sesame", "x", 400, "file name"},
		{"PUT", "/visits.csv.part", "sesame", "x", 400, "file name"},
		{"PUT", "/", "sesame", "x", 400, "file name"},
		{"PUT", "/a/b/c.csv", "sesame", "x", 400, ""},
		{"GET", "/visits.csv", "sesame", "", 405, "PUT or POST"},
	} {
		code, body := send(c.method, c.path, c.token, strings.NewReader(c.body))
		if code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, code, body, c.code, c.says)
		}
	}
	if code, body := send("PUT", "/visits.csv", "sesame", io.MultiReader(strings.NewReader(header), errReader{})); code != 400 || !strings.Contains(body, "broke off") {
		t.Errorf("an upload that breaks off: %d %s", code, body)
	}
	q := httptest.NewRequest("PUT", "/visits.csv", http.NoBody)
	q.Header.Set("Authorization", "Bearer sesame")
	q.ContentLength = maxUpload + 1
	w := httptest.NewRecorder()
	if r.Handler().ServeHTTP(w, q); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", w.Code)
	}
	if left := in(t, filepath.Join(drop, "working")); len(left) > 0 {
		t.Errorf("left in working: %v", left)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestALargeUploadIsStreamed(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 270 MiB")
	}
	r := newRunner(t, Options{Drop: t.TempDir()})
	q := httptest.NewRequest("PUT", "/visits.csv", io.LimitReader(&repeating{[]byte("x"), 0}, maxUpload+1))
	w := httptest.NewRecorder()
	peak := measure(func() { r.Handler().ServeHTTP(w, q) })
	if w.Code != http.StatusRequestEntityTooLarge || peak > 64<<20 {
		t.Errorf("%d, peak %d MiB", w.Code, peak>>20)
	}
}

func TestManyLargeDocumentsDoNotAddUp(t *testing.T) {
	drop, door := t.TempDir(), new(book)
	r := newRunner(t, Options{Drop: drop, Mapping: mapping(t, documents)})
	manifest := "doc,patient,surname,file,label\n"
	n := 12
	if testing.Short() {
		n = 3
	}
	put(t, drop, "big.txt", string(bytes.Repeat([]byte("All is well. "), maxDocument/13)), night)
	for i := range n {
		manifest += fmt.Sprintf("D%d,P%d,Taylor,big.txt,\n", i, i)
	}
	put(t, drop, "manifest.csv", manifest, night)
	peak := measure(func() {
		for range 2 {
			if err := r.Sweep(t.Context(), door); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(door.order) != n || peak > 256<<20 {
		t.Errorf("%d documents of 10 MiB, peak %d MiB", len(door.order), peak>>20)
	}
	t.Logf("%d documents, peak %d MiB", n, peak>>20)
}
