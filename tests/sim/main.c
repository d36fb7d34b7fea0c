/*
 * main: sim [options]: one run of a scenario; a life of the simulated process is a process of its
 * own. The last line says how it went, and how to have the same run again. See sim.h.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/sim.h"

enum { LIVES_MAX = 1000 };

static int
usage(void)
{
	fprintf(stderr,
		"usage: sim [-s SEED] [-c SCENARIO] [-d DAYS] [-h HOSTS] [-t TENANTS] [-m "
		"MESSAGES] [-v] [-r N] [-1] [-q DIR]\n"
		"  -v  the log of the dispatcher, on standard error\n"
		"  -r  the life of recipient N, on standard error\n"
		"  -1  all in this process (for a debugger): no restarts\n"
		"  -q  the queue's directory (must be empty): else a temporary one, in /dev/shm if "
		"there is one\n"
		"scenarios: %s\n",
		scenario_names());
	return 2;
}

static int
one_life(bool alone)
{
	int status = 0;
	pid_t child;

	if (alone)
		return life_run();
	fflush(stdout);
	child = fork();
	if (child == 0)
		exit(life_run());
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return LIFE_FAILED;
	if (WIFSIGNALED(status))
		fprintf(stderr, "sim: killed by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : LIFE_FAILED;
}

static double
seconds(void)
{
	struct rusage own, children;

	getrusage(RUSAGE_SELF, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + children.ru_utime.tv_sec +
			children.ru_stime.tv_sec) +
	       (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + children.ru_utime.tv_usec +
			children.ru_stime.tv_usec) /
		       1e6;
}

static void
tell(int result)
{
	const struct settings *s = &world->set;

	printf("%s seed %llu: %.1f days, %u hosts, %u messages in, %u recipients: %llu delivered, "
	       "%llu times put off, %llu "
	       "failed, %llu reported, %llu warned of; %u lives (%llu crashes), %llu connections "
	       "refused, %llu edits, "
	       "%llu reloads; first tries after %.1f s (tenant 0: r%u), %.1f s (others: r%u) at "
	       "most; %llu "
	       "suspended, %llu slowed, %llu by another source, %llu out of order; %llu turns, "
	       "%.1f s of CPU\n",
	       s->scenario, (unsigned long long)s->seed, (double)(world->mono - world->began) / DAY,
	       s->hosts, world->handed_in, world->rcpt_count, (unsigned long long)world->delivered,
	       (unsigned long long)world->temporary, (unsigned long long)world->failed,
	       (unsigned long long)world->reports, (unsigned long long)world->warnings,
	       world->life + 1, (unsigned long long)world->crashed,
	       (unsigned long long)world->refused, (unsigned long long)world->edits,
	       (unsigned long long)world->reloads, (double)world->slowest[0].ms / 1000,
	       world->slowest[0].rcpt, (double)world->slowest[1].ms / 1000, world->slowest[1].rcpt,
	       (unsigned long long)world->suspended, (unsigned long long)world->slowed,
	       (unsigned long long)world->overflowed, (unsigned long long)world->overtaken,
	       (unsigned long long)world->turns, seconds());
	if (result != LIFE_OVER)
		printf("FAILED %s\nagain: sim -c %s -s %llu -d %lld -h %u -t %u -m %u\n",
		       world->failure, s->scenario, (unsigned long long)s->seed,
		       (long long)(s->days_ms / DAY), s->hosts, s->tenants, s->messages);
}

static void
remove_queue(const char *path)
{
	char *const rm[] = { (char[]){ "rm" }, (char[]){ "-rf" }, (char *)(uintptr_t)path, NULL };
	pid_t child = fork();

	if (child == 0) {
		execvp("rm", rm);
		_exit(1);
	}
	waitpid(child, NULL, 0);
}

static bool
read_options(int argc, char **argv, struct settings *s, bool *alone)
{
	int option;

	while ((option = getopt(argc, argv, "s:c:d:h:t:m:q:r:v1")) != -1) {
		if (option == 's')
			s->seed = strtoull(optarg, NULL, 0);
		else if (option == 'c')
			s->scenario = optarg;
		else if (option == 'd')
			s->days_ms = strtol(optarg, NULL, 0) * DAY;
		else if (option == 'h')
			s->hosts = (uint32_t)strtoul(optarg, NULL, 0);
		else if (option == 't')
			s->tenants = (uint32_t)strtoul(optarg, NULL, 0);
		else if (option == 'm')
			s->messages = (uint32_t)strtoul(optarg, NULL, 0);
		else if (option == 'q')
			s->path = optarg;
		else if (option == 'r')
			s->traced = (uint32_t)strtoul(optarg, NULL, 0);
		else if (option == 'v')
			s->verbose = true;
		else if (option == '1')
			*alone = true;
		else
			return false;
	}
	s->domains = s->hosts + s->hosts / 4;
	return optind == argc && s->tenants > 0 && s->hosts > s->tenants && s->days_ms > 0;
}

int
main(int argc, char **argv)
{
	static char shm[] = "/dev/shm/tram-sim-XXXXXX", tmp[] = "/tmp/tram-sim-XXXXXX";
	struct settings set = {
		.seed = 1, .traced = UINT32_MAX, .scenario = "steady", .days_ms = 2 * DAY,
		.hosts = 1000, .tenants = 5, .messages = 5000,
		.lifetime_ms = 5 * (int64_t)DAY, .window_entries = 50000, .window_sites = 10000,
		.deliveries = 200, .per_site = 20, .several = 10,
	};
	bool alone = false, own;
	int result = LIFE_RESTART;

	if (!read_options(argc, argv, &set, &alone) || !scenario_apply(&set))
		return usage();
	own = set.path == NULL;
	if (own && (set.path = mkdtemp(shm)) == NULL && (set.path = mkdtemp(tmp)) == NULL)
		return usage();
	world_make(&set);
	for (; result == LIFE_RESTART || result == LIFE_DIED; world->life++) {
		result = one_life(alone);
		if (world->life == LIVES_MAX)
			result = LIFE_FAILED;
	}
	world->life--;
	tell(result);
	if (own)
		remove_queue(set.path);
	return result != LIFE_OVER;
}
