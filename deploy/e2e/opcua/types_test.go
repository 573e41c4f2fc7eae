package opcua

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/opcua/trust"

	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// kinds is a server with values of all kinds: testdata/types.js.
type kinds struct {
	*servant

	port      int
	cert, key string
}

func newKinds(t *testing.T) *kinds {
	t.Helper()
	k := &kinds{servant: &servant{t: t}, port: freePort(t)}
	k.cert, k.key = newAuthority(t).server(t, nil)
	k.start()
	return k
}

// start runs the server; in its types these texts are replaced by others.
func (k *kinds) start(changes ...[2]string) {
	k.t.Helper()
	k.run(script(k.t, "testdata/types.js"))
	k.tell(order{"port": k.port, "dir": k.t.TempDir(), "uri": serverURI, "cert": k.cert, "key": k.key, "changes": changes})
}

// tell gives one order and waits until it is done.
func (k *kinds) tell(o order) {
	k.t.Helper()
	k.ask(o, nil)
}

// shelf keeps what a reader hands over: it implements source.Log.
type shelf struct {
	mu     sync.Mutex
	n      uint64
	poll   strict.Duration
	tables map[mesh.Hash][]mesh.Signal
	values map[string][]string // of a signal, as said by say
	notes  []string
	told   []string
	state  []byte
}

func (s *shelf) Append(_ context.Context, o mesh.Offer) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if o.State != nil {
		s.state = o.State
	}
	for _, d := range o.Descriptors {
		table, err := wire.Signals(d)
		if err != nil {
			return 0, err
		}
		s.tables[d.Hash()] = table
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		return 0, err
	}
	for _, b := range o.Sealed {
		h, err := wire.ParseHeader(b)
		if err != nil {
			return 0, err
		}
		switch h.Kind {
		case mesh.KindBatch:
			batch, err := dec.Batch(b)
			if err != nil {
				return 0, err
			}
			for _, x := range batch.Samples {
				row := s.tables[batch.Table][x.Signal]
				s.values[row.Name] = append(s.values[row.Name], say(&row, &x))
			}
		case mesh.KindVoid:
			v, err := wire.OpenVoid(b)
			if err != nil {
				return 0, err
			}
			s.notes = append(s.notes, v.Note)
		case mesh.KindOpening, mesh.KindVerdict, mesh.KindFact:
		}
	}
	return s.n, nil
}

func (s *shelf) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		s.mu.Lock()
		n := s.n
		s.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *shelf) Tell(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, text)
}

// say is a sample as whoever gets it reads it, by the signal table.
func say(row *mesh.Signal, x *mesh.Sample) string {
	if !x.Status.IsGood() {
		return fmt.Sprintf("0x%08X", uint32(x.Status))
	}
	i := mesh.Item{Value: x.Value}
	if x.Value.Type.OnHeap() && x.Value.Type >= mesh.TypeArray {
		var err error
		if i, err = wire.ParseItem(x.Value.Bytes); err != nil {
			return err.Error()
		}
	}
	return sayItem(mesh.Field{Type: row.Type, Fields: row.Fields, Choices: row.Choices}, i)
}

func sayItem(f mesh.Field, i mesh.Item) string {
	var parts []string
	switch i.Value.Type {
	case mesh.TypeArray:
		of := mesh.Field{}
		if len(f.Fields) == 1 {
			of = f.Fields[0]
		}
		for _, x := range i.Items {
			parts = append(parts, sayItem(of, x))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case mesh.TypeStruct, mesh.TypeEvent:
		if f.Name == "value" && f.Type == mesh.TypeNone && len(i.Items) == 2 { // it says its type itself
			f.Fields = []mesh.Field{{Name: "type"}, {Name: "fields", Fields: []mesh.Field{{Fields: []mesh.Field{{Name: "name"}, {Name: "value"}}}}}}
		}
		for n, x := range i.Items {
			of := mesh.Field{Name: "?"}
			if n < len(f.Fields) {
				of = f.Fields[n]
			}
			if x.Value.Type != mesh.TypeNone {
				parts = append(parts, of.Name+":"+sayItem(of, x))
			}
		}
		return "{" + strings.Join(parts, " ") + "}"
	case mesh.TypeNone, mesh.TypeBool, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble, mesh.TypeString, mesh.TypeBytes:
	}
	if text := f.Choices.Text(i.Value); text != "" {
		return i.Value.String() + "=" + text
	}
	return i.Value.String()
}

// read starts a reader of these signals on a shelf; it ends with the test or stop.
func (k *kinds) read(s *shelf, signals ...edgeua.Signal) (stop func()) {
	k.t.Helper()
	cfg := edgeua.Config{
		ID: "kinds", Endpoint: fmt.Sprintf("opc.tcp://127.0.0.1:%d", k.port), Disorder: strict.Duration(disorder), Signals: signals, Poll: s.poll,
		Application: edgeua.Application{Store: k.t.TempDir(), URI: "urn:plantmesh:matrix:kinds", Hosts: []string{"gw-1"}},
	}
	cfg.Window.Latency = strict.Duration(100 * time.Millisecond)
	store, err := trust.Open(cfg.Application.Store)
	if err == nil {
		_, err = store.TrustFile(k.cert, cfg.Endpoint)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	r, err := edgeua.New(cfg, clock.Machine{}.Now, logger(k.t))
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	resume := s.state
	go func() { done <- r.Run(ctx, resume, s) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			k.t.Error(err)
		}
	})
	k.t.Cleanup(stop)
	return stop
}

func newShelf() *shelf {
	return &shelf{tables: map[mesh.Hash][]mesh.Signal{}, values: map[string][]string{}}
}

// gets waits until the newest value of a signal is want.
func (s *shelf) gets(t *testing.T, signal, want string) {
	t.Helper()
	var got string
	ok := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if v := s.values[signal]; len(v) > 0 {
			got = v[len(v)-1]
		}
		return got == want
	}
	late := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-late:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s is\n%s, want\n%s; voids %q, told %.400q", signal, got, want, s.notes, s.told)
		}
	}
}

func signal(name, node, kind string) edgeua.Signal {
	if !strings.Contains(node, "=") {
		node = "nsu=" + serverURI + ";s=" + node
	}
	return edgeua.Signal{Name: name, Node: node, Type: kind}
}

// TestTypes_ValuesOfAllKindsArrive: arrays, enumerations and structures, with what
// their fields and numbers are called.
func TestTypes_ValuesOfAllKindsArrive(t *testing.T) {
	beside(t)
	k := newKinds(t)
	want := map[string][2]string{ // type, value
		"doubles": {"array", "[1.5 -2 1e+300]"},
		"matrix":  {"array", "[[1 2 3] [4 5 6]]"},
		"mixed":   {"array", "[{value:2.5} {value:x}]"},
		"texts":   {"array", "[Halt stop]"},
		"mode":    {"int", "5=Setup"},
		"modes":   {"array", "[0=Manual 1=Automatic]"},
		"light":   {"uint", "2=green"},
		"point":   {"struct", "{X:1 Y:-2}"},
		"job":     {"struct", "{Name:job 1 Count:1 Mode:5=Setup Path:[{X:1 Y:0.5} {X:-1 Y:2}] Result:{At:{X:7 Y:8}} Tags:[a ä]}"},
		"jobs": {"array", "[{Name:job 2 Mode:5=Setup Path:[{X:2 Y:0.5} {X:-1 Y:2}] Result:{Torque:12.5} Tags:[a ä]} " +
			"{Name:job 3 Count:3 Mode:5=Setup Path:[{X:3 Y:0.5} {X:-1 Y:2}] Result:{At:{X:7 Y:8}} Tags:[a ä]}]"},
		"any": {"struct", "{type:Point fields:[{name:X value:3} {name:Y value:4}]}"},
	}
	signals := []edgeua.Signal{
		signal("status", "i=2256", "struct"), signal("build", "i=2260", "struct"), signal("summary", "i=2275", "struct"),
		signal("state", "i=2259", "int"), signal("namespaces", "i=2255", "array"),
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		signals = append(signals, signal(name, name, want[name][0]))
	}
	s := newShelf()
	k.read(s, signals...)
	for name, w := range want {
		s.gets(t, name, w[1])
	}
	s.gets(t, "state", "0=Running")
	s.gets(t, "namespaces", "[http://opcfoundation.org/UA/ "+serverURI+" urn:plantmesh:types]")
	s.mu.Lock()
	defer s.mu.Unlock()
	// These change by themselves: of them the parts that stand still.
	for name, parts := range map[string][]string{
		"status":  {"StartTime:20", "CurrentTime:20", "State:0=Running", "BuildInfo:{ProductUri:", "SoftwareVersion:", "SecondsTillShutdown:0", "ShutdownReason:"},
		"build":   {"{ProductUri:", "ManufacturerName:", "BuildDate:20"},
		"summary": {"{ServerViewCount:0", "CurrentSessionCount:1", "RejectedRequestsCount:"},
	} {
		if len(s.values[name]) == 0 {
			t.Errorf("%s has no value; voids %q, told %.400q", name, s.notes, s.told)
			continue
		}
		if miss := words(s.values[name][0], parts...); miss != "" {
			t.Errorf("%s is %s, without %q", name, s.values[name][0], miss)
		}
	}
}

// TestTypes_LearnedWhileValuesCome: a structure of a type that no node announces is
// asked for when it comes, and the value is not lost.
func TestTypes_LearnedWhileValuesCome(t *testing.T) {
	beside(t)
	k := newKinds(t)
	s, polled := newShelf(), newShelf()
	polled.poll = strict.Duration(100 * time.Millisecond)
	k.read(polled, signal("any", "any", "struct"), signal("mode", "mode", "int"))
	k.read(s, signal("any", "any", "struct"), signal("doubles", "doubles", "struct"))
	s.gets(t, "any", "{type:Point fields:[{name:X value:3} {name:Y value:4}]}")
	polled.gets(t, "any", "{type:Point fields:[{name:X value:3} {name:Y value:4}]}")
	polled.gets(t, "mode", "5=Setup")
	k.tell(order{"do": "any", "name": "Alarm", "fields": order{"code": -7, "where": order{"x": 1, "y": 2}}})
	s.gets(t, "any", "{type:Alarm fields:[{name:Code value:-7} {name:Where value:{type:Point fields:[{name:X value:1} {name:Y value:2}]}}]}")
	polled.gets(t, "any", "{type:Alarm fields:[{name:Code value:-7} {name:Where value:{type:Point fields:[{name:X value:1} {name:Y value:2}]}}]}")
	s.gets(t, "doubles", "0x80740000") // BadTypeMismatch: the file says struct
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.values["any"]) != 2 || len(s.notes) != 1 || words(s.notes[0], "doubles: an array of 3 values where the configuration says struct", "type: array") != "" {
		t.Errorf("values %q, voids %q", s.values["any"], s.notes)
	}
}

// TestTypes_DriftIsTold: a firmware that describes a structure and an enumeration
// otherwise is told of, by name, and every value has the fields it was sent with.
func TestTypes_DriftIsTold(t *testing.T) {
	beside(t)
	k := newKinds(t)
	s := newShelf()
	stop := k.read(s, signal("point", "point", "struct"), signal("mode", "mode", "int"), signal("state", "i=2259", "int"))
	s.gets(t, "point", "{X:1 Y:-2}")
	s.gets(t, "mode", "5=Setup")
	k.kill()
	k.start([2]string{`Name="Y" DataType="Double"`, `Name="Y" DataType="Double" /><Field Name="Z" DataType="Int32"`}, [2]string{"Setup", "Settings"})
	s.gets(t, "point", "{X:1 Y:-2 Z:0}")
	s.gets(t, "mode", "5=Settings")
	s.gets(t, "state", "0=Running")
	drift := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, note := range s.notes {
			if words(note, "mapping drift", "point is now Point (X, Y, Z)", "mode is now Mode (0=Manual, 1=Automatic, 5=Settings)") == "" && !strings.Contains(note, "state") {
				n++
			}
		}
		return n
	}
	s.mu.Lock()
	told := s.told[len(s.told)-1]
	s.mu.Unlock()
	if drift() != 1 || words(told, "connected", "mapping drift", "point") != "" {
		t.Errorf("voids %q, told %q", s.notes, told)
	}
	// The same again is no drift, and what was known outlives the process.
	stop()
	k.read(s, signal("point", "point", "struct"), signal("mode", "mode", "int"), signal("state", "i=2259", "int"))
	s.mu.Lock()
	s.told = nil
	s.mu.Unlock()
	until(t, 15*time.Second, "the reader is connected again", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.told) > 0 && strings.HasPrefix(s.told[len(s.told)-1], "connected")
	})
	if n := drift(); n != 1 || strings.Contains(s.told[len(s.told)-1], "drift") {
		t.Errorf("drift is told %d times; told %q", n, s.told)
	}
}
