/* The commands of vmmctl.  argv[0] is the command's name; each returns an enum
 * exit_code. */
#ifndef VMMCTL_COMMANDS_H
#define VMMCTL_COMMANDS_H

int command_run(int argc, char **argv);
int command_layout(int argc, char **argv);
int command_config(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_top(int argc, char **argv);
int command_sandbox(int argc, char **argv);
int command_set(int argc, char **argv);
int command_ps(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_kill(int argc, char **argv);
int command_console(int argc, char **argv);
int command_shutdown(int argc, char **argv);
int command_fault(int argc, char **argv);
int command_blackbox(int argc, char **argv);
int command_scenario(int argc, char **argv);
int command_upgrade(int argc, char **argv);

/* Print a command's help; NULL: the program's.  Returns code. */
int command_help(const char *command, int code);

#endif
