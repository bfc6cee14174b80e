// Package kubernetes looks at the manifests of deploy/kubernetes without a cluster. It is a module of its own, so that nobody who
// builds the bridge needs Kubernetes' types.
package kubernetes

import (
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var fleetbridge = flag.String("fleetbridge", "", "the built bridge, which checks the configuration")

const dir = "../../deploy/kubernetes"

// read returns the files that kustomization.yaml lists, and fails if there are others.
func read(t *testing.T) map[string]string {
	t.Helper()
	var k struct {
		APIVersion, Kind string
		Resources        []string
		Images           []struct{ Name, NewName, NewTag string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatalf("kustomization.yaml: %v", err)
	}
	files := map[string]string{}
	for _, name := range k.Resources {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	there, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		name := filepath.Base(path)
		if _, listed := files[name]; !listed && name != "kustomization.yaml" && name != "nats-values.yaml" {
			t.Errorf("%s is not in kustomization.yaml", name)
		}
	}
	return files
}

func TestManifests(t *testing.T) {
	for _, problem := range check(read(t)) {
		t.Error(problem)
	}
}

// The bridge takes the configuration, and finds each secret that it names.
func TestConfiguration(t *testing.T) {
	if *fleetbridge == "" {
		t.Fatal("-fleetbridge is missing: make kubernetes-check names it")
	}
	s := decode(read(t))
	at := t.TempDir()
	for name, text := range s.mounted() {
		path := filepath.Join(at, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), *fleetbridge, "check", "--config", filepath.Join(at, "fleetbridge.yaml"))
	for _, e := range s.container().Env {
		c.Env = append(c.Env, e.Name+"=fleetbridge-0")
	}
	if out, err := c.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The values of the chart are YAML; whether the chart knows them only the chart can tell.
func TestChartValues(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(dir, "nats-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil || values["config"] == nil {
		t.Errorf("%v, %v", err, values)
	}
}

// Each mistake is found.
func TestMistakes(t *testing.T) {
	good := read(t)
	for _, m := range []struct{ file, old, new, want string }{
		{"statefulset.yaml", "replicas: 3", "replica: 3", `unknown field "replica"`},
		{"statefulset.yaml", "replicas: 3", "replicas: 3\n  replicas: 4", "already set"},
		{"statefulset.yaml", "replicas: 3", "replicas: 1", "at least 2 bridges"},
		{"statefulset.yaml", "memory: 512Mi", "memory: 512Mo", "quantities must match"},
		{"statefulset.yaml", "limits: {memory: 512Mi}", "limits: {}", "no limit of memory"},
		{"statefulset.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may be root"},
		{"statefulset.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file system"},
		{"statefulset.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "more privileges"},
		{"statefulset.yaml", "{drop: [ALL]}", "{drop: [NET_RAW]}", "capabilities"},
		{"statefulset.yaml", "serviceName: fleetbridge", "serviceName: bridges", "service bridges"},
		{"statefulset.yaml", "configMap: {name: fleetbridge}", "configMap: {name: bridge}", "ConfigMap bridge"},
		{"statefulset.yaml", "{name: data, mountPath: /data}", "{name: store, mountPath: /data}", "no volume store"},
		{"statefulset.yaml", "{path: /readyz, port: http}", "{path: /ready, port: http}", "readinessProbe"},
		{"statefulset.yaml", "{path: /readyz, port: http}", "{path: /readyz, port: web}", "no port web"},
		{"statefulset.yaml", "terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 5", "grace period"},
		{"statefulset.yaml", "topologyKey: kubernetes.io/hostname", "topologyKey: kubernetes.io/os", "one node"},
		{"statefulset.yaml", "labels: {app.kubernetes.io/name: fleetbridge}\n    spec:", "labels: {app: fleetbridge}\n    spec:", "selector"},
		{"service.yaml", "targetPort: http", "targetPort: web", "no port web"},
		{"service.yaml", "selector: {app.kubernetes.io/name: fleetbridge}", "selector: {app: fleetbridge}", "service fleetbridge selects no pod"},
		{"poddisruptionbudget.yaml", "{matchLabels: {app.kubernetes.io/name: fleetbridge}}", "{matchLabels: {app: fleetbridge}}", "PodDisruptionBudget"},
		{"poddisruptionbudget.yaml", "kind: PodDisruptionBudget", "kind: PodDisruption", "is not known"},
	} {
		files := maps.Clone(good)
		if files[m.file] = strings.Replace(good[m.file], m.old, m.new, 1); files[m.file] == good[m.file] {
			t.Errorf("%s has no %q", m.file, m.old)
			continue
		}
		problems := check(files)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, m.want) }) {
			t.Errorf("%s with %q: %q", m.file, m.new, problems)
		}
	}
}
