package bulk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tombolo/events"
	"tombolo/fhir"
	"tombolo/fhir/r4"
	"tombolo/gather"
	"tombolo/intake"
	"tombolo/store"
)

// An Import says what came.
type Import struct {
	Lines int   `json:"lines"`
	Bytes int64 `json:"bytes"`
}

// MaxLine is the longest line taken, in bytes.
const MaxLine = 16 << 20

// MaxImport is the largest import taken, in bytes before it is packed.
const MaxImport = 64 << 30

// Import takes NDJSON, one resource a line, and begins a job that writes them: each under its own id, as PUT does. What came is kept before the job is told of, so
// that nothing has to be sent again; a line that cannot be taken is told of in the job's errors, and hinders no other. Done twice, it changes nothing the second time;
// under a key that came before with the same lines it is not done again, and the job of then is told of. Other lines under it are an error of type BusinessRule.
func (s *Service) Import(ctx context.Context, own *gather.Own, ask Asking, from io.Reader) (Job, error) {
	once := s.once(own, ask)
	if was, ok, err := once.before(ctx, s.o.Store.View(Bucket)); err != nil || ok {
		if err != nil {
			return Job{}, err
		}
		if _, err := io.Copy(once.sum, io.LimitReader(from, MaxImport+1)); err != nil {
			return Job{}, err
		}
		return once.again(was)
	}
	j, err := s.begin(ctx, own, Job{Import: &Import{}, Request: ask.Address, State: Uploading, Holder: s.o.Node, Until: s.now(), Phase: phaseFirst, Cursor: "0"}, nil)
	if err != nil {
		return Job{}, err
	}
	if err := s.upload(ctx, &j, io.TeeReader(from, once.sum), once); err != nil {
		// What could not be read whole is taken away, also when the client has gone. Its key goes in the same moment: it may have been kept, and its answer lost.
		after := context.WithoutCancel(ctx)
		err = errors.Join(err, s.remove(after, j.Source, j.ID, func(tx store.Tx) error { return once.forget(after, tx.Bucket(Bucket), j.ID) }))
		if twin := (*twin)(nil); errors.As(err, &twin) {
			return once.again(twin.begun)
		}
		return Job{}, err
	}
	s.poke()
	return j, nil
}

// upload keeps what comes in as pieces of whole lines. A line that is too long is passed over and told of.
func (s *Service) upload(ctx context.Context, j *Job, from io.Reader, once *once) error {
	in, out := bufio.NewReaderSize(from, 64<<10), s.output(j)
	var lines bytes.Buffer
	keep := func(state State) error {
		if lines.Len() > 0 {
			key, packed := inKey(j.Of), pack(lines.Bytes())
			j.Of++
			if _, err := s.o.Store.Update(ctx, func(tx store.Tx) error { tx.Bucket(files(j.ID)).Put(key, packed); return nil }); err != nil {
				return err
			}
			lines.Reset()
		}
		if state == Uploading && !out.due() {
			return nil
		}
		if j.State = state; state == Uploading {
			return out.flush(ctx, true)
		}
		return out.flush(ctx, true, func(tx store.Tx) error { return once.keep(ctx, tx.Bucket(Bucket), *j) })
	}
	for {
		line, err := readLine(in)
		if err != nil && err != io.EOF && err != errLong {
			return err
		}
		if len(line) > 0 || err != io.EOF {
			j.Import.Lines++
			j.Import.Bytes += int64(len(line)) + 1
		}
		switch {
		case j.Import.Bytes > MaxImport:
			return fhir.Errorf(fhir.TooLong, "an import has at most %d bytes: send it in parts", int64(MaxImport))
		case err == errLong:
			out.problem(fhir.Errorf(fhir.TooLong, "the line is longer than %d bytes", MaxLine).At(place(j.Import.Lines)))
			lines.WriteByte('\n') // so that the lines keep their numbers
		default:
			lines.Write(line)
			lines.WriteByte('\n')
		}
		if err == io.EOF {
			return keep(Waiting)
		}
		if lines.Len() >= pieceMost {
			if err := keep(Uploading); err != nil {
				return err
			}
		}
	}
}

func inKey(piece int) string { return fmt.Sprintf("in/%08d", piece) }

func place(line int) string { return "line " + strconv.Itoa(line) }

var errLong = errors.New("the line is too long")

// readLine reads a line without its end, whatever its length, holding no more of it than MaxLine.
func readLine(in *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > MaxLine+1 {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case long && (err == nil || err == io.EOF):
			return nil, errLong
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
}

// The phases of an import, in order: everything is about a patient who must be there first.
const (
	phaseFirst = "patients"
	phaseRest  = "all else"
)

// An importing is one import under way.
type importing struct {
	s    *Service
	own  *gather.Own
	out  *output
	door *intake.Intake

	mu  sync.Mutex
	seq events.Seq
}

func (s *Service) imports(ctx context.Context, own *gather.Own, out *output) error {
	x := &importing{s: s, own: own, out: out, door: s.o.Intake.Bulk()}
	for _, phase := range []string{phaseFirst, phaseRest} {
		if out.job.Phase != phase {
			continue
		}
		if err := x.pieces(ctx, phase == phaseFirst); err != nil {
			return err
		}
		if phase == phaseFirst {
			out.job.Phase, out.job.Cursor = phaseRest, "0 0"
			if err := out.flush(ctx, true); err != nil {
				return err
			}
		}
	}
	if err := s.o.Await(ctx, x.seq); err != nil {
		return fhir.Errorf(fhir.Transient, "stored, and not yet findable: %w", err)
	}
	return nil
}

// pieces takes those of what came that are patients, or those that are not. The cursor is the piece to go on with, and how many lines were before it.
func (x *importing) pieces(ctx context.Context, patients bool) error {
	j := x.out.job
	at, before, _ := strings.Cut(j.Cursor, " ")
	piece, _ := strconv.Atoi(at)
	line, _ := strconv.Atoi(before)
	for ; piece < j.Of; piece++ {
		v, ok, err := x.s.o.Store.View(files(j.ID)).Get(ctx, inKey(piece))
		if err == nil && !ok {
			return errLost
		}
		if err != nil {
			return err
		}
		text, err := unpack(v)
		if err != nil {
			return err
		}
		var rows []row
		for l := range bytes.Lines(text) {
			line++
			if r, ok := x.read(bytes.TrimSpace(l), line, patients); ok {
				rows = append(rows, r)
			}
		}
		if err := x.write(ctx, rows); err != nil {
			return err
		}
		j.Cursor = strconv.Itoa(piece+1) + " " + strconv.Itoa(line)
		if err := x.out.flush(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

func unpack(v []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(v))
	if err != nil {
		return nil, fmt.Errorf("unpack a piece of an import: %w", err)
	}
	return io.ReadAll(z)
}

// A row is one resource to be written.
type row struct {
	line int
	res  *fhir.Resource
}

// read reads a line, if this phase takes it. What cannot be read is told of in the last.
func (x *importing) read(text []byte, line int, patients bool) (row, bool) {
	if len(text) == 0 || patients && !bytes.Contains(text, []byte(`"Patient"`)) {
		return row{}, false
	}
	res, err := fhir.Parse(text)
	if err != nil {
		if !patients {
			x.out.problem(at(line, fhir.IssueOf(err)))
		}
		return row{}, false
	}
	if patients != (res.Type() == "Patient") {
		return row{}, false
	}
	issues := r4.Check(res, r4.Shape)
	if res.ID() == "" {
		issues = append(issues, fhir.Errorf(fhir.Required, "each resource needs an id of its own, so that an import that is sent again changes nothing").At(res.Type()+".id"))
	}
	if len(issues) > 0 {
		for i := range issues {
			issues[i] = at(line, issues[i])
		}
		x.out.problem(issues...)
		return row{}, false
	}
	return row{line, res}, true
}

func at(line int, i *fhir.Issue) *fhir.Issue {
	if i.Expression == "" {
		return i.At(place(line))
	}
	return i.At(place(line) + ": " + i.Expression)
}

const (
	lanes   = 4   // transactions at the same time
	atATime = 250 // resources in one
)

// write writes rows in several transactions at a time. What comes twice stays in order: a resource is always in the same lane.
func (x *importing) write(ctx context.Context, rows []row) error {
	var parts [lanes][]row
	seed := maphash.MakeSeed()
	for _, r := range rows {
		n := maphash.String(seed, string(r.res.Ref())) % lanes
		parts[n] = append(parts[n], r)
	}
	var wait sync.WaitGroup
	var failed [lanes]error
	for n, part := range parts {
		wait.Go(func() {
			for some := range slices.Chunk(part, atATime) {
				if failed[n] = x.submit(ctx, some); failed[n] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failed[:]...)
}

// submit writes some in one transaction, audited before anything is said of them. Those that cannot be written are told of.
func (x *importing) submit(ctx context.Context, rows []row) error {
	var raw bytes.Buffer
	var refs []fhir.Ref
	for _, r := range rows {
		raw.Write(r.res.Raw())
		raw.WriteByte('\n')
		refs = append(refs, r.res.Ref())
		if p := gather.PatientOf(r.res); p != "" && p != r.res.ID() {
			refs = append(refs, fhir.MakeRef("Patient", p))
		}
	}
	var problems []*fhir.Issue
	var doing gather.Doing
	receipt, err := x.door.Submit(ctx, intake.Submission{Source: x.own.Source(), Raw: raw.Bytes(), ContentType: "application/fhir+ndjson", Reach: x.own.Reach()}, func(tx *intake.Writing) ([]byte, error) {
		problems, doing = nil, gather.Doing{Kind: "update", Query: "$import " + x.out.job.ID}
		if err := tx.Prefetch(ctx, refs...); err != nil {
			return nil, err
		}
		for _, r := range rows {
			if _, err := tx.Put(ctx, r.res); err != nil {
				i := fhir.IssueOf(err)
				if i == nil || !theirs[i.Type] {
					return nil, err
				}
				problems = append(problems, at(r.line, i))
				continue
			}
			version, err := tx.Version(ctx, r.res.Ref())
			if err != nil {
				return nil, err
			}
			doing.Refs = append(doing.Refs, "PUT "+string(r.res.Ref())+"/_history/"+strconv.Itoa(version))
			if p := gather.PatientOf(r.res); p != "" && !slices.Contains(doing.Patients, p) {
				doing.Patients = append(doing.Patients, p)
			}
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	if len(doing.Refs) > 0 {
		if err := x.own.Remember(ctx, doing); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seq = max(x.seq, receipt.Seq)
	x.out.job.Done += len(doing.Refs)
	for _, p := range problems {
		x.out.problem(p)
	}
	return nil
}

// theirs are the faults of a line, and not of this server.
var theirs = map[fhir.IssueType]bool{fhir.BusinessRule: true, fhir.Conflict: true, fhir.Required: true, fhir.ValueError: true, fhir.Invalid: true, fhir.Structure: true, fhir.Forbidden: true}
