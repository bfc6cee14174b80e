package kubernetes

import (
	"fmt"
	"maps"
	"path"
	"slices"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// site is what the manifests describe.
type site struct {
	configs  map[string]core.ConfigMap
	services []core.Service
	bridges  apps.StatefulSet
	budgets  []policy.PodDisruptionBudget
	problems []string
}

func (s *site) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// decode reads each file as the type that it says it is, and refuses fields that this type does not have.
func decode(files map[string]string) *site {
	s := &site{configs: map[string]core.ConfigMap{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal([]byte(files[name]), &kind); err != nil {
			s.problem("%s: %v", name, err)
			continue
		}
		var err error
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 ConfigMap":
			var c core.ConfigMap
			err = yaml.UnmarshalStrict([]byte(files[name]), &c)
			s.configs[c.Name] = c
		case "v1 Service":
			var v core.Service
			err = yaml.UnmarshalStrict([]byte(files[name]), &v)
			s.services = append(s.services, v)
		case "apps/v1 StatefulSet":
			err = yaml.UnmarshalStrict([]byte(files[name]), &s.bridges)
		case "policy/v1 PodDisruptionBudget":
			var b policy.PodDisruptionBudget
			err = yaml.UnmarshalStrict([]byte(files[name]), &b)
			s.budgets = append(s.budgets, b)
		default:
			err = fmt.Errorf("%s %s is not known here", kind.APIVersion, kind.Kind)
		}
		if err != nil {
			s.problem("%s: %v", name, err)
		}
	}
	if len(s.bridges.Spec.Template.Spec.Containers) != 1 {
		s.problem("the StatefulSet has %d containers, one is known here", len(s.bridges.Spec.Template.Spec.Containers))
		s.bridges.Spec.Template.Spec.Containers = make([]core.Container, 1)
	}
	return s
}

// check returns what is wrong: in a manifest, or between two of them.
func check(files map[string]string) []string {
	s := decode(files)
	s.selectors()
	s.locks()
	s.volumes()
	s.probes()
	c, spec := s.container(), s.bridges.Spec
	if spec.Replicas == nil || *spec.Replicas < 2 {
		s.problem("at least 2 bridges are needed, or nobody takes over")
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		s.problem("there is no limit of memory, or no request of memory or processor time")
	}
	if g := spec.Template.Spec.TerminationGracePeriodSeconds; g == nil || *g < 15 {
		s.problem("the grace period is shorter than 15 s: a bridge takes 10 s to stop")
	}
	return s.problems
}

func (s *site) container() core.Container { return s.bridges.Spec.Template.Spec.Containers[0] }

// selectors looks whether those that select pods select these.
func (s *site) selectors() {
	pod := labels.Set(s.bridges.Spec.Template.Labels)
	selects := func(what string, by *meta.LabelSelector) {
		selector, err := meta.LabelSelectorAsSelector(by)
		if err != nil || selector.Empty() || !selector.Matches(pod) {
			s.problem("the selector of %s does not select the pods: %v", what, err)
		}
	}
	selects("the StatefulSet", s.bridges.Spec.Selector)
	for _, b := range s.budgets {
		selects("PodDisruptionBudget "+b.Name, b.Spec.Selector)
	}
	if len(s.budgets) != 1 {
		s.problem("there are %d of PodDisruptionBudget", len(s.budgets))
	}
	named := false
	for _, v := range s.services {
		named = named || v.Name == s.bridges.Spec.ServiceName && v.Spec.ClusterIP == core.ClusterIPNone
		if len(v.Spec.Selector) == 0 || !labels.SelectorFromSet(v.Spec.Selector).Matches(pod) {
			s.problem("service %s selects no pod", v.Name)
		}
		for _, p := range v.Spec.Ports {
			s.port("service "+v.Name, p.TargetPort)
		}
	}
	if !named {
		s.problem("there is no headless service %s", s.bridges.Spec.ServiceName)
	}
	affinity := s.bridges.Spec.Template.Spec.Affinity
	if affinity == nil || affinity.PodAntiAffinity == nil {
		s.problem("all bridges may be on one node")
		return
	}
	apart := affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	for _, p := range affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
		apart = append(apart, p.PodAffinityTerm)
	}
	for _, a := range apart {
		selects("podAntiAffinity", a.LabelSelector)
	}
	if !slices.ContainsFunc(apart, func(a core.PodAffinityTerm) bool { return a.TopologyKey == core.LabelHostname }) {
		s.problem("all bridges may be on one node")
	}
}

// port looks for a port of the container, by its name.
func (s *site) port(what string, p intstr.IntOrString) {
	if !slices.ContainsFunc(s.container().Ports, func(c core.ContainerPort) bool {
		return c.Name == p.StrVal && p.Type == intstr.String || c.ContainerPort == p.IntVal
	}) {
		s.problem("%s: the container has no port %s", what, p.String())
	}
}

// locks looks whether the container is as locked up as the one of docker-compose.yml.
func (s *site) locks() {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	pod, c := s.bridges.Spec.Template.Spec.SecurityContext, s.container().SecurityContext
	if pod == nil || !is(pod.RunAsNonRoot, true) || pod.RunAsUser == nil || *pod.RunAsUser == 0 {
		s.problem("the container may be root")
	}
	switch {
	case c == nil:
		s.problem("the container has no securityContext")
		return
	case !is(c.ReadOnlyRootFilesystem, true):
		s.problem("the root file system is not read-only")
	}
	if !is(c.AllowPrivilegeEscalation, false) {
		s.problem("the container may get more privileges")
	}
	if c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) || len(c.Capabilities.Add) > 0 {
		s.problem("the container keeps capabilities")
	}
	if !is(s.bridges.Spec.Template.Spec.AutomountServiceAccountToken, false) {
		s.problem("the container gets a token of the cluster's API")
	}
}

// volumes looks whether all that is mounted is there.
func (s *site) volumes() {
	spec := s.bridges.Spec.Template.Spec
	for _, m := range s.container().VolumeMounts {
		if !slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
			s.problem("%s: there is no volume %s", m.MountPath, m.Name)
		}
	}
	for _, v := range spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.ConfigMap == nil {
				continue
			}
			if _, there := s.configs[p.ConfigMap.Name]; !there {
				s.problem("volume %s: there is no ConfigMap %s", v.Name, p.ConfigMap.Name)
			}
		}
	}
}

// probes looks whether the bridge is asked for the pages that it has.
func (s *site) probes() {
	c := s.container()
	for _, p := range []struct {
		name, path string
		probe      *core.Probe
	}{{"startupProbe", "/healthz", c.StartupProbe}, {"livenessProbe", "/healthz", c.LivenessProbe}, {"readinessProbe", "/readyz", c.ReadinessProbe}} {
		if p.probe == nil || p.probe.HTTPGet == nil || p.probe.HTTPGet.Path != p.path {
			s.problem("%s does not ask %s", p.name, p.path)
			continue
		}
		s.port(p.name, p.probe.HTTPGet.Port)
	}
}

// mounted are the files of the projected volumes, with a text in the place of each secret.
func (s *site) mounted() map[string]string {
	out := map[string]string{}
	for _, v := range s.bridges.Spec.Template.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.ConfigMap != nil {
				maps.Copy(out, s.configs[p.ConfigMap.Name].Data)
			}
			if p.Secret != nil {
				for _, i := range p.Secret.Items {
					out[path.Clean(i.Path)] = "secret\n"
				}
			}
		}
	}
	return out
}
