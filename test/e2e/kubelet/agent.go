package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/inference-scaler/inference-scaler/test/e2e/process"
)

// ProcessAnnotation marks the pods that are run as processes.
const ProcessAnnotation = "e2e/process"

// probePeriod is shorter than a kubelet's second, to measure readiness more precisely.
const probePeriod = 100 * time.Millisecond

// Agent runs the first container of every pod that is marked, as a process. The
// process has the container's command, arguments, environment, readiness probe (HTTP),
// grace period and a token of its service account. It is restarted whenever it ends
// before its pod does.
type Agent struct {
	Kube   kubernetes.Interface
	Config *rest.Config // of the API server that the processes may call
	// Programs are the paths of those that a container's command may name.
	Programs map[string]string
	Dir      string // for logs and kubeconfigs
	Log      *slog.Logger

	mu     sync.Mutex
	pods   map[types.UID]*podRun
	failed []error // of processes that did what they should not
	wg     sync.WaitGroup
}

// retryEvery is how often is tried again what the API server refused.
const retryEvery = time.Second

// podRun is a pod whose process runs.
type podRun struct {
	deleted chan struct{} // closed when the pod is to end
	once    sync.Once

	mu      sync.Mutex
	process *process.Process
}

// Watch handles the informer's events about pods, until ctx is done; [Agent.Wait]
// waits for the end of the processes then.
func (a *Agent) Watch(ctx context.Context, pods cache.SharedIndexInformer) error {
	a.pods = map[types.UID]*podRun{}
	set := func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Annotations[ProcessAnnotation] != "" {
			a.set(ctx, pod)
		}
	}
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if pod, ok := obj.(*corev1.Pod); ok {
				a.end(pod.UID)
			}
		},
	})
	return err
}

// Wait waits until all processes have ended.
func (a *Agent) Wait() { a.wg.Wait() }

// Unexpected is which processes have ended by themselves, or not well when they
// were asked to.
func (a *Agent) Unexpected() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.failed...)
}

func (a *Agent) fail(err error) {
	a.Log.Error("a pod's process", "err", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = append(a.failed, err)
}

// Process is the one that runs for a pod, nil if there is none.
func (a *Agent) Process(uid types.UID) *process.Process {
	a.mu.Lock()
	run := a.pods[uid]
	a.mu.Unlock()
	if run == nil {
		return nil
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.process
}

func (a *Agent) set(ctx context.Context, pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		a.end(pod.UID)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pods[pod.UID] != nil || pod.Status.PodIP == "" && pod.DeletionTimestamp == nil || ctx.Err() != nil {
		return
	}
	run := &podRun{deleted: make(chan struct{})}
	if pod.DeletionTimestamp != nil {
		run.once.Do(func() { close(run.deleted) })
	}
	a.pods[pod.UID] = run
	a.wg.Go(func() {
		if err := a.run(ctx, pod, run); err != nil && ctx.Err() == nil {
			a.fail(fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err))
		}
	})
}

func (a *Agent) end(uid types.UID) {
	a.mu.Lock()
	run := a.pods[uid]
	a.mu.Unlock()
	if run != nil {
		run.once.Do(func() { close(run.deleted) })
	}
}

// run keeps the pod's process running until the pod is to end, and ends the pod then.
func (a *Agent) run(ctx context.Context, pod *corev1.Pod, run *podRun) error {
	if pod.Status.PodIP != "" {
		if err := a.keepRunning(ctx, pod, run); err != nil {
			return err
		}
	}
	now := int64(0)
	return a.insist(ctx, nil, func() error {
		err := a.Kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	})
}

func (a *Agent) keepRunning(ctx context.Context, pod *corev1.Pod, run *podRun) error {
	var command process.Command
	err := a.insist(ctx, run.deleted, func() (err error) {
		command, err = a.command(ctx, pod)
		return err
	})
	if err != nil || command.Path == "" {
		return err
	}
	grace := 30 * time.Second
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	for {
		p, err := process.Start(command)
		if err != nil {
			return err
		}
		run.mu.Lock()
		run.process = p
		run.mu.Unlock()
		if a.attend(ctx, pod, p, run.deleted) {
			if err := p.Unexpected(); err != nil {
				a.fail(err)
				select {
				case <-run.deleted:
				case <-time.After(retryEvery):
				}
			}
			continue
		}
		if state := p.Stop(grace); !state.Success() {
			a.fail(fmt.Errorf("pod %s/%s: asked to end, its process ended with %s", pod.Namespace, pod.Name, state))
		}
		return nil
	}
}

// insist calls do until it succeeds, the pod is to end, or ctx is done.
func (a *Agent) insist(ctx context.Context, deleted <-chan struct{}, do func() error) error {
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return nil
		}
		a.Log.Warn("tried again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-deleted:
			return nil
		case <-time.After(retryEvery):
		}
	}
}

// attend tells whether the process is ready while it runs. It returns when the
// process is to end, or (again) when it has ended by itself.
func (a *Agent) attend(ctx context.Context, pod *corev1.Pod, p *process.Process, deleted <-chan struct{}) (again bool) {
	probe := prober(pod)
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	told := false
	tell := func(ready bool) {
		if ready == told {
			return
		}
		if err := SetReady(ctx, a.Kube, pod.Namespace, pod.Name, ready); err != nil {
			a.Log.Warn("a pod's readiness", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			return // the next look shows it
		}
		told = ready
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-deleted:
			return false
		case <-p.Exited():
			a.Log.Info("a pod's process has ended and is started again", "pod", pod.Namespace+"/"+pod.Name)
			tell(false)
			return true
		case <-tick.C:
			tell(probe(ctx))
			if _, err := a.mountSecrets(ctx, pod); err != nil {
				a.Log.Warn("a pod's Secrets", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			}
		}
	}
}

// prober is the readiness probe of the pod's container; without one it is always ready.
func prober(pod *corev1.Pod) func(context.Context) bool {
	probe := pod.Spec.Containers[0].ReadinessProbe
	if probe == nil || probe.HTTPGet == nil {
		return func(context.Context) bool { return true }
	}
	port := probe.HTTPGet.Port.String()
	for _, p := range pod.Spec.Containers[0].Ports {
		if p.Name == port {
			port = strconv.Itoa(int(p.ContainerPort))
		}
	}
	url := "http://" + net.JoinHostPort(pod.Status.PodIP, port) + probe.HTTPGet.Path
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode < 400
	}
}

// command is what a container runtime would start.
func (a *Agent) command(ctx context.Context, pod *corev1.Pod) (process.Command, error) {
	container := pod.Spec.Containers[0]
	program := ""
	if len(container.Command) > 0 {
		program = a.Programs[path.Base(container.Command[0])]
	}
	if program == "" {
		return process.Command{}, fmt.Errorf("command %q: none of the programs there are", container.Command)
	}
	mounts, err := a.mountSecrets(ctx, pod)
	if err != nil {
		return process.Command{}, err
	}
	kubeconfig, err := a.kubeconfig(ctx, pod)
	if err != nil {
		return process.Command{}, fmt.Errorf("token of service account %s: %w", pod.Spec.ServiceAccountName, err)
	}
	env := []string{"KUBECONFIG=" + kubeconfig}
	var expand []string
	for _, v := range container.Env {
		value := v.Value
		if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
			value = map[string]string{
				"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "status.podIP": pod.Status.PodIP,
			}[v.ValueFrom.FieldRef.FieldPath]
		}
		env = append(env, v.Name+"="+value)
		expand = append(expand, "$("+v.Name+")", value)
	}
	args := slices.Concat(container.Command[1:], container.Args)
	for i := range args {
		args[i] = strings.NewReplacer(slices.Concat(expand, mounts)...).Replace(args[i])
	}
	return process.Command{
		Name: pod.Name, Path: program, Args: args, Env: env,
		Log: filepath.Join(a.Dir, pod.Namespace+"_"+pod.Name+".log"),
	}, nil
}

// mountSecrets makes a folder of each Secret that is mounted, or brings it up to date,
// and returns what leads arguments there: "=/tls/" to "=FOLDER/", in pairs.
func (a *Agent) mountSecrets(ctx context.Context, pod *corev1.Pod) (lead []string, err error) {
	for _, v := range pod.Spec.Volumes {
		if v.Secret == nil {
			continue
		}
		s, err := a.Kube.CoreV1().Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(a.Dir, string(pod.UID)+"-"+v.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		for key, data := range s.Data {
			if err := replace(filepath.Join(dir, key), data); err != nil {
				return nil, err
			}
		}
		for _, m := range pod.Spec.Containers[0].VolumeMounts {
			if m.Name == v.Name {
				lead = append(lead, "="+m.MountPath+"/", "="+dir+"/")
			}
		}
	}
	return lead, nil
}

// replace gives a file other contents, so that no reader sees half of it.
func replace(file string, data []byte) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return nil
	}
	next := file + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// kubeconfig writes one for the pod's service account, as its mounted token would be.
func (a *Agent) kubeconfig(ctx context.Context, pod *corev1.Pod) (string, error) {
	hours := int64(24 * time.Hour / time.Second)
	token, err := a.Kube.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"] = &clientcmdapi.Cluster{Server: a.Config.Host, CertificateAuthority: a.Config.CAFile}
	config.AuthInfos["pod"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["pod"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: "pod"}
	config.CurrentContext = "pod"
	file := filepath.Join(a.Dir, string(pod.UID)+".kubeconfig")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return file, clientcmd.WriteToFile(*config, file)
}
