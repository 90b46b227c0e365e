package intake

import (
	"maps"
	"sync"
	"time"
)

// A Stat counts a source's deliveries since this process started.
type Stat struct {
	Accepted, Duplicates, Rejected, Failed int
	Last                                   time.Time // when something last arrived
	Reused                                 int       // of those accepted: under an id that another delivery had
	LastReused                             time.Time
}

type stats struct {
	mu sync.Mutex
	by map[string]Stat
}

func (s *stats) add(source string, at time.Time, change func(*Stat)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]Stat{}
	}
	st := s.by[source]
	st.Last = at
	change(&st)
	s.by[source] = st
}

// Heard is when a source last sent anything that was taken or known again, zero if it has not since this process started.
func (in *Intake) Heard(source string) time.Time {
	in.stats.mu.Lock()
	defer in.stats.mu.Unlock()
	if st := in.stats.by[source]; st.Accepted+st.Duplicates > 0 {
		return st.Last
	}
	return time.Time{}
}

// Stats are the counts by source.
func (in *Intake) Stats() map[string]Stat {
	in.stats.mu.Lock()
	defer in.stats.mu.Unlock()
	return maps.Clone(in.stats.by)
}
